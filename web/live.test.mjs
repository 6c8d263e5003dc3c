// Looks on while a run goes on, as a reader of the dashboard would. `node --test web/live.test.mjs`, with
// SCENARIO=the program, SCREENSHOTS=folder (optional), CHROMIUM=/usr/bin/chromium.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { after, before } from "node:test";
import { controls, emptyFigures, launch, look, reachable, serious, settled, shot } from "./browser.mjs";

const out = mkdtempSync(path.join(tmpdir(), "live-"));
let browser, run, dashboard, metrics, ended;

// One SLO fails on every machine: power is no matter of our clock.
before(async () => {
  browser = await launch();
  const words = ["run", "../scenarios/quickstart.yaml", "--set", "load.sweep.levels.users=[4,8]", "--set", "load.sweep.levels.requests=400", "--set", "slos.frugal=mean gpu.power < 1 W", "--dashboard", "0", "--metrics", "0", "--out", out, "--progress", "none", "--summary", "none", "--exit-zero"];
  run = spawn(path.resolve(process.env.SCENARIO), words, { stdio: ["ignore", "inherit", "pipe"] });
  ended = new Promise((told) => run.on("exit", told));
  let said = "";
  for await (const piece of run.stderr) {
    said += piece;
    [dashboard, metrics] = [/dashboard: (\S+)/, /metrics: (\S+)/].map((line) => said.match(line)?.[1]);
    if (dashboard && metrics) break;
  }
  assert.ok(dashboard && metrics, said);
});
after(async () => {
  run?.kill();
  await browser?.close();
  rmSync(out, { recursive: true });
});

const opened = (options) => look(browser, dashboard, { options, allowed: (url) => url.startsWith(dashboard) });
const requests = (page) => page.evaluate(() => Number(/\bok (\d+)/.exec(document.getElementById("now").textContent)?.[1] ?? 0));

test("a run is shown while it goes on: charts, verdicts so far, and that it is simulated", async () => {
  const { page, wrong, close } = await opened();
  await page.waitForSelector("#slos .badge.fail");
  await page.waitForSelector("#timelines figure svg");
  assert.equal(await page.textContent(".status strong"), "running");
  assert.match(await page.textContent(".status"), /so far:.*simulated/s);
  assert.ok((await page.locator("#slos .label", { hasText: "so far" }).count()) > 0);
  const before = await requests(page);
  await page.waitForFunction((before) => Number(/\bok (\d+)/.exec(document.getElementById("now").textContent)?.[1]) > before + 20, before);
  await settled(page);
  assert.deepEqual(await emptyFigures(page), []);
  await shot(page, "live", { fullPage: true });
  assert.deepEqual(wrong, []);
  await close();
});

test("what a reader has hovered, chosen, filtered and opened stays while the page is brought up to date", async () => {
  const { page, wrong, close } = await opened();
  await page.waitForSelector("#slos .badge.fail");
  await page.selectOption("#state", "fail");
  await page.selectOption("#metric", "e2e");
  await page.locator("#slos tr.said.fail summary").first().click();
  const figure = page.locator("#timelines figure").first();
  await figure.scrollIntoViewIfNeeded();
  const box = await figure.locator(".chart").boundingBox();
  await figure.locator(".chart").hover({ position: { x: box.width / 2, y: box.height / 2 } });
  await page.waitForFunction(() => /\d s/.test(document.querySelector("#timelines figure:first-child .tip")?.innerText));
  const before = await requests(page);
  await page.waitForFunction((before) => Number(/\bok (\d+)/.exec(document.getElementById("now").textContent)?.[1]) > before + 10, before);
  assert.match(await figure.locator(".tip").innerText(), /\d s/);
  assert.equal(await page.inputValue("#state"), "fail");
  assert.equal(await page.inputValue("#metric"), "e2e");
  assert.ok(await page.locator("#slos tr.said.fail details").first().evaluate((one) => one.open));
  const badges = await page.locator("#slos tbody tr:not(.said):visible .badge").allTextContents();
  assert.deepEqual([...new Set(badges.map((text) => text.trim().split(/\s+/).at(-1)))], ["fail"]);
  await shot(page, "live-hover");
  assert.deepEqual(wrong, []);
  await close();
});

test("the keyboard reaches every control, and axe finds nothing serious", async () => {
  const { page, wrong, close } = await opened({ colorScheme: "dark" });
  await page.waitForSelector("#timelines figure svg");
  const wanted = await controls(page);
  assert.ok((await reachable(page, wanted)) >= wanted);
  assert.deepEqual(await serious(page), []);
  await shot(page, "live-dark");
  assert.deepEqual(wrong, []);
  await close();
});

test("Prometheus reads how the run stands", async () => {
  const text = await (await fetch(metrics)).text();
  assert.match(text, /^scenario_run_info\{scenario="quickstart".*\} 1$/m);
  assert.match(text, /^scenario_requests_total\{cell="sim\/llama8b\/chat\/sweep",stage="c4",outcome="ok"\} [1-9]/m);
  assert.match(text, /^scenario_slo_state\{slo="frugal",cell=".*",stage="c4",state="fail"\} 1$/m);
});

test("the last page is the report", async () => {
  const { page, wrong, close } = await opened();
  await page.waitForFunction(() => document.getElementById("now").textContent.startsWith("The run is over"), null, { timeout: 120_000 });
  assert.equal(await page.textContent(".status strong"), "failed");
  assert.equal(await page.locator("#slos .label", { hasText: "so far" }).count(), 0);
  assert.equal(await ended, 0);
  assert.deepEqual(await emptyFigures(page), []);
  await page.selectOption("#metric", "e2e");
  await shot(page, "live-over", { fullPage: true });
  assert.deepEqual(wrong, []);
  await close();
});
