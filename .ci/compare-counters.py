"""Compares what a run counted with the engine's own counters: compare-counters.py RESULTS METRICS_BEFORE METRICS_AFTER

Reads vLLM's and llama.cpp's names. Fails when the tokens that the engine says it generated are not those that the run saw.
"""

import json
import pathlib
import sys

results, before, after = map(pathlib.Path, sys.argv[1:])


def totals(path):
    """Each metric's sum over its labels."""
    found = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.split("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found


def grown(*names):
    for name in names:
        if name in last:
            return last[name] - first.get(name, 0.0)
    return None


first, last = totals(before), totals(after)
requests = [row for row in map(json.loads, (results / "requests.ndjson").read_text().splitlines()) if "outcome" in row]
answered = [row for row in requests if row["outcome"] == "ok"]
cut = [row for row in requests if row["outcome"] == "cut"]
ours = {
    "requests answered": len(answered),
    "output tokens": sum(row["output_tokens"] for row in answered),
    "prompt tokens": sum(row["input_tokens"] for row in answered),
}
theirs = {
    "requests answered": grown("vllm:request_success_total"),
    "output tokens": grown("vllm:generation_tokens_total", "llamacpp:tokens_predicted_total"),
    "prompt tokens": grown("vllm:prompt_tokens_total", "llamacpp:prompt_tokens_total"),
}
print(f"{len(answered)} of {len(requests)} requests answered, {len(cut)} cut")
for name, value in ours.items():
    print(f"{name}: ours {value}, the engine's {theirs[name]}")
ttft = [row["ttft_ms"] for row in answered if row["ttft_ms"] is not None]
e2e = [row["e2e_ms"] for row in answered if row["e2e_ms"] is not None]
for name, seen, metric in [
    ("ttft", ttft, "vllm:time_to_first_token_seconds"),
    ("e2e", e2e, "vllm:e2e_request_latency_seconds"),
]:
    count = grown(f"{metric}_count")
    if count and seen:
        engine = 1000 * grown(f"{metric}_sum") / count
        print(f"mean {name}: ours {sum(seen) / len(seen):.2f} ms (n={len(seen)}), the engine's {engine:.2f} ms (n={count:.0f})")
spans = [row["finished_ms"] for row in answered], [row["dispatched_ms"] for row in answered]
seconds = (max(spans[0]) - min(spans[1])) / 1000
print(f"output tokens per second from the first send to the last end: ours {ours['output tokens'] / seconds:.1f}, "
      f"the engine's {theirs['output tokens'] / seconds:.1f}")

assert answered, "no request was answered"
# Requests that were cut leave tokens at the engine that no usage block told.
spare = 64 * len(cut)
difference = theirs["output tokens"] - ours["output tokens"]
assert 0 <= difference <= spare, f"token counts differ by {difference:.0f}, and {len(cut)} cut requests explain at most {spare}"
