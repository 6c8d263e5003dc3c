"""TensorRT-LLM without its server: `LLM.generate_async`, streaming, or `LLM.generate`, a batch at a time."""

import asyncio
import threading

from scenario_adapter import batches, messages, say


def sampling(request):
    from tensorrt_llm import SamplingParams

    names = ("max_tokens", "min_tokens", "ignore_eos", "temperature", "top_p", "top_k", "seed", "stop")
    return SamplingParams(**{name: request[name] for name in names if request.get(name) is not None})


def finish(id, answer):
    output = answer.outputs[0]
    say("done", id=id, reason=output.finish_reason, input=len(answer.prompt_token_ids), output=len(output.token_ids))


def whole(engine):
    for batch in batches():
        answers = engine.generate([request["prompt"] for request in batch], [sampling(request) for request in batch])
        for request, answer in zip(batch, answers):
            output = answer.outputs[0]
            say("delta", id=request["id"], text=output.text, tokens=len(output.token_ids))
            finish(request["id"], answer)


async def answer(engine, request):
    tokens = 0
    try:
        async for part in engine.generate_async(request["prompt"], sampling(request), streaming=True):
            output = part.outputs[0]
            if len(output.token_ids) > tokens:
                say("delta", id=request["id"], text=output.text_diff, tokens=len(output.token_ids) - tokens)
            tokens = len(output.token_ids)
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
    import tensorrt_llm

    told = messages()
    _, load = next(told)
    engine = tensorrt_llm.LLM(model=load["model"], **load["args"])
    say("ready", version=tensorrt_llm.__version__)
    if load["mode"] == "generate":
        whole(engine)
    else:
        asyncio.run(stream(engine, told))
    engine.shutdown()


if __name__ == "__main__":
    try:
        main()
    except Exception as problem:
        say("error", message=f"{type(problem).__name__}: {problem}")
        raise
