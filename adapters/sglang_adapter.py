"""SGLang without its server: `sgl.Engine`, streaming or a batch at a time."""

import asyncio
import threading

from scenario_adapter import batches, messages, say

NAMES = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "ignore_eos": "ignore_eos",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop": "stop",
}


def sampling(request):
    return {theirs: request[ours] for ours, theirs in NAMES.items() if request.get(ours) is not None}


def finish(id, answer):
    facts = answer["meta_info"]
    say(
        "done",
        id=id,
        reason=(facts.get("finish_reason") or {}).get("type"),
        input=facts.get("prompt_tokens"),
        output=facts.get("completion_tokens"),
        cached=facts.get("cached_tokens"),
    )


def whole(engine):
    for batch in batches():
        answers = engine.generate([request["prompt"] for request in batch], [sampling(request) for request in batch])
        for request, answer in zip(batch, answers):
            say("delta", id=request["id"], text=answer["text"], tokens=answer["meta_info"].get("completion_tokens"))
            finish(request["id"], answer)


async def answer(engine, request):
    text, tokens, part = "", 0, None
    try:
        parts = await engine.async_generate(request["prompt"], sampling(request), stream=True)
        async for part in parts:
            now = part["meta_info"].get("completion_tokens") or tokens
            if now > tokens:
                say("delta", id=request["id"], text=part["text"][len(text):], tokens=now - tokens)
            text, tokens = part["text"], now
        finish(request["id"], part)
    except Exception as problem:
        say("error", id=request["id"], message=str(problem))


async def stream(engine, told):
    incoming, loop = asyncio.Queue(), asyncio.get_running_loop()

    def listen():
        for message in told:
            loop.call_soon_threadsafe(incoming.put_nowait, message)
        loop.call_soon_threadsafe(incoming.put_nowait, None)

    threading.Thread(target=listen, daemon=True).start()
    tasks = {}
    while (message := await incoming.get()) is not None:
        word, fields = message
        if word == "generate":
            tasks[fields["id"]] = asyncio.create_task(answer(engine, fields))
        elif word == "cancel" and fields["id"] in tasks:
            tasks.pop(fields["id"]).cancel()


def main():
    import sglang

    told = messages()
    _, load = next(told)
    engine = sglang.Engine(model_path=load["model"], **load["args"])
    say("ready", version=sglang.__version__)
    if load["mode"] == "generate":
        whole(engine)
    else:
        asyncio.get_event_loop().run_until_complete(stream(engine, told))
    engine.shutdown()


if __name__ == "__main__":
    try:
        main()
    except Exception as problem:
        say("error", message=f"{type(problem).__name__}: {problem}")
        raise
