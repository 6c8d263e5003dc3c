"""vLLM without its server: `AsyncLLMEngine` in mode `stream`, `LLM.generate` in mode `generate`."""

import asyncio
import threading

from scenario_adapter import batches, messages, say


def sampling(request, **more):
    from vllm import SamplingParams

    names = ("max_tokens", "min_tokens", "ignore_eos", "temperature", "top_p", "top_k", "seed", "stop")
    return SamplingParams(**{name: request[name] for name in names if request.get(name) is not None}, **more)


def whole(load):
    import vllm

    engine = vllm.LLM(model=load["model"], **load["args"])
    say("ready", version=vllm.__version__)
    for batch in batches():
        answers = engine.generate([request["prompt"] for request in batch], [sampling(request) for request in batch])
        for request, answer in zip(batch, answers):
            finish(request["id"], answer, answer.outputs[0].text)


def finish(id, answer, text=None):
    output = answer.outputs[0]
    if text is not None:
        say("delta", id=id, text=text, tokens=len(output.token_ids))
    say(
        "done",
        id=id,
        reason=output.finish_reason,
        input=len(answer.prompt_token_ids),
        output=len(output.token_ids),
        cached=getattr(answer, "num_cached_tokens", None),
    )


async def stream(load, incoming):
    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs

    engine = vllm.AsyncLLMEngine.from_engine_args(AsyncEngineArgs(model=load["model"], **load["args"]))
    say("ready", version=vllm.__version__)
    tasks = {}

    async def answer(request):
        text, tokens = "", 0
        try:
            async for part in engine.generate(request["prompt"], sampling(request), str(request["id"])):
                output = part.outputs[0]
                if len(output.token_ids) > tokens:
                    say("delta", id=request["id"], text=output.text[len(text):], tokens=len(output.token_ids) - tokens)
                text, tokens = output.text, len(output.token_ids)
                if part.finished:
                    finish(request["id"], part)
        except Exception as problem:
            say("error", id=request["id"], message=str(problem))
        finally:
            tasks.pop(request["id"], None)

    while (message := await incoming.get()) is not None:
        word, fields = message
        if word == "generate":
            tasks[fields["id"]] = asyncio.create_task(answer(fields))
        elif word == "cancel" and fields["id"] in tasks:
            await engine.abort(str(fields["id"]))


async def main():
    told = messages()
    _, load = next(told)
    if load["mode"] == "generate":
        await asyncio.to_thread(whole, load)
        return
    incoming, loop = asyncio.Queue(), asyncio.get_running_loop()

    def listen():
        for message in told:
            loop.call_soon_threadsafe(incoming.put_nowait, message)
        loop.call_soon_threadsafe(incoming.put_nowait, None)

    threading.Thread(target=listen, daemon=True).start()
    await stream(load, incoming)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Exception as problem:
        say("error", message=f"{type(problem).__name__}: {problem}")
        raise
