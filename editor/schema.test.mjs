// Holds the JSON Schema to yaml-language-server, as an editor runs it: `npm ci && node --test editor/schema.test.mjs`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import test, { after, before } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const server = path.join(path.dirname(createRequire(import.meta.url).resolve("yaml-language-server/package.json")), "bin/yaml-language-server");
const schemas = { "2020-12": "scenario.v1.json", 7: "scenario.v1.draft-07.json" };

// A language server over stdio: messages with a length before each.
class Server {
  constructor(schema) {
    this.child = spawn(process.execPath, [server, "--stdio"], { stdio: ["pipe", "pipe", "inherit"] });
    this.asked = 0;
    this.waiting = new Map();
    this.diagnostics = new Map();
    this.watchers = [];
    this.schema = pathToFileURL(path.join(here, "../schemas", schema)).href;
    let buffer = Buffer.alloc(0);
    this.child.stdout.on("data", (data) => {
      buffer = Buffer.concat([buffer, data]);
      for (;;) {
        const head = buffer.indexOf("\r\n\r\n");
        if (head < 0) return;
        const length = Number(/Content-Length: (\d+)/.exec(buffer.subarray(0, head).toString())[1]);
        if (buffer.length < head + 4 + length) return;
        const message = JSON.parse(buffer.subarray(head + 4, head + 4 + length).toString());
        buffer = buffer.subarray(head + 4 + length);
        this.hear(message);
      }
    });
  }
  send(message) {
    const text = JSON.stringify({ jsonrpc: "2.0", ...message });
    this.child.stdin.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  }
  hear(message) {
    if (message.method === "workspace/configuration") {
      // One answer for each section that it asks for.
      const yaml = { validate: true, hover: true, completion: true, format: { enable: false }, schemaStore: { enable: false }, schemas: { [this.schema]: ["*.yaml"] } };
      this.send({ id: message.id, result: message.params.items.map((item) => (item.section === "yaml" ? yaml : {})) });
    } else if (message.method && message.id !== undefined) {
      this.send({ id: message.id, result: null });
    } else if (message.method === "textDocument/publishDiagnostics") {
      this.diagnostics.set(message.params.uri, message.params.diagnostics);
      this.watchers = this.watchers.filter((watcher) => !watcher());
    } else if (message.id !== undefined) {
      const { resolve, reject } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.error) reject(new Error(JSON.stringify(message.error)));
      else resolve(message.result);
    }
  }
  ask(method, params) {
    const id = ++this.asked;
    this.send({ id, method, params });
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }
  async start() {
    const capabilities = { workspace: { configuration: true, didChangeConfiguration: { dynamicRegistration: true } }, textDocument: { completion: { completionItem: { snippetSupport: false, documentationFormat: ["markdown"] } } } };
    await this.ask("initialize", { processId: process.pid, rootUri: null, capabilities });
    this.send({ method: "initialized", params: {} });
    this.send({ method: "workspace/didChangeConfiguration", params: { settings: {} } });
  }
  // Opens a text; `|` is where the cursor is. Gives what is told to be wrong with it.
  async open(name, marked) {
    const at = marked.indexOf("|");
    const text = marked.replace("|", "");
    const before = marked.slice(0, at < 0 ? undefined : at).split("\n");
    this.place = { textDocument: { uri: `file:///work/${name}` }, position: { line: before.length - 1, character: before.at(-1).length } };
    const { uri } = this.place.textDocument;
    this.diagnostics.delete(uri);
    const told = new Promise((resolve) => this.watchers.push(() => this.diagnostics.has(uri) && (resolve(this.diagnostics.get(uri)), true)));
    this.send({ method: "textDocument/didOpen", params: { textDocument: { uri, languageId: "yaml", version: 1, text } } });
    return told;
  }
  async labels() {
    const { items } = await this.ask("textDocument/completion", this.place);
    return items.map((item) => item.label);
  }
  async hover() {
    const told = await this.ask("textDocument/hover", this.place);
    return JSON.stringify(told?.contents ?? "");
  }
}

const right = readFileSync(path.join(here, "../fixtures/specs/valid/slos.yaml"), "utf8");

for (const [draft, file] of Object.entries(schemas)) {
  test(`draft ${draft}`, async (t) => {
    let one;
    let files = 0;
    const open = (marked) => one.open(`${draft}-${files++}.yaml`, marked);
    before(async () => {
      one = new Server(file);
      await one.start();
    });
    after(() => one.child.kill());

    await t.test("a right file is right", async () => {
      assert.deepEqual(await open(right), []);
    });
    await t.test("an unknown key and a wrong word are errors at their places", async () => {
      const told = await open("version: 1\nbackends: { vllm: { url: \"http://localhost:8000\", kind: vlm } }\nload:\n  sweep: { levels: { users: 8, for: 60s } }\nthresholds: {}\n");
      const lines = told.map((one) => `${one.range.start.line}: ${one.message}`);
      assert.ok(lines.some((line) => line.startsWith("4: ") && line.includes("thresholds")), lines.join("\n"));
      assert.ok(lines.some((line) => line.startsWith("1: ")), lines.join("\n"));
    });
    await t.test("a quantity without its unit is an error", async () => {
      const told = await open("version: 1\nbackends: { vllm: \"http://localhost:8000\" }\nload:\n  sweep:\n    levels: { users: 8, for: 60 }\n");
      assert.ok(told.some((one) => one.range.start.line === 4), JSON.stringify(told));
    });
    await t.test("an expression is right where a number is wanted", async () => {
      const told = await open("version: 1\nbackends: { vllm: \"http://localhost:8000\" }\nload:\n  sweep:\n    levels: { users: \"${{ vars.users }}\", for: \"${{ vars.time }}\" }\n");
      assert.deepEqual(told, []);
    });
    await t.test("keys are completed", async () => {
      await open("version: 1\nba|\n");
      const labels = await one.labels();
      for (const key of ["backends", "baseline"]) assert.ok(labels.includes(key), labels.join(" "));
      await open("version: 1\nload:\n  sweep:\n    levels:\n      us|\n");
      assert.ok((await one.labels()).includes("users"));
      await open("version: 1\nprompts:\n  made:\n    source: synthetic\n    inp|\n");
      assert.ok((await one.labels()).includes("input_tokens"));
    });
    await t.test("metrics are completed in assertions and in goodput", async () => {
      await open("version: 1\nslos:\n  gate:\n    assert: |\n");
      const labels = await one.labels();
      for (const metric of ["ttft", "error_rate", "output_tps", "gpu.power"]) assert.ok(labels.some((label) => label.includes(metric)), `${metric}: ${labels.join(" · ")}`);
      await open("version: 1\ngoodput:\n  tt|\n");
      assert.ok((await one.labels()).includes("ttft"), (await one.labels()).join(" "));
    });
    await t.test("words are completed", async () => {
      await open("version: 1\nbackends:\n  engine:\n    kind: |\n");
      const labels = await one.labels();
      for (const kind of ["vllm", "sglang", "simulator"]) assert.ok(labels.includes(kind), labels.join(" "));
    });
    await t.test("a key is explained", async () => {
      await open("version: 1\nmat|rix: { backend: [vllm] }\n");
      assert.match(await one.hover(), /Which combinations run/);
      await open("version: 1\nload:\n  sweep:\n    levels:\n      wa|rmup: 5s\n");
      assert.match(await one.hover(), /sent before each level/);
    });
  });
}
