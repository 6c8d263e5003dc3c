// Opens a report in headless Chromium as a reader would. `node --test web/page.test.mjs`, with
// REPORT=report.html, SCREENSHOTS=folder (optional), CHROMIUM=/usr/bin/chromium.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { after, before } from "node:test";
import { pathToFileURL } from "node:url";
import { controls, emptyFigures, launch, look, reachable, serious, settled, shot } from "./browser.mjs";

const report = path.resolve(process.env.REPORT);
let browser;

before(async () => (browser = await launch()));
after(() => browser?.close());

// The page is a file, and asks for nothing.
const opened = (options) => look(browser, pathToFileURL(report).href, { options, allowed: () => false });

test("every chart is drawn, and nothing is asked of a network", async () => {
  const { page, wrong, close } = await opened();
  assert.deepEqual(await emptyFigures(page), []);
  assert.ok((await page.$$("figure")).length >= 10);
  await settled(page);
  await shot(page, "light", { fullPage: true });
  assert.deepEqual(wrong, []);
  await close();
});

test("the verdict stands first, in words", async () => {
  const { page, close } = await opened();
  const title = await page.title();
  const status = await page.textContent(".status strong");
  assert.match(title, new RegExp(`: ${status}$`));
  assert.ok((await page.locator(".status").boundingBox()).y < 300);
  await close();
});

test("hovering a chart tells its values, and so do the arrow keys", async () => {
  const { page, wrong, close } = await opened();
  const figure = page.locator("#timelines figure").first();
  await figure.scrollIntoViewIfNeeded();
  const box = await figure.locator(".chart").boundingBox();
  await figure.locator(".chart").hover({ position: { x: box.width / 2, y: box.height / 2 } });
  await page.waitForFunction(() => /\d s/.test(document.querySelector("#timelines figure:first-child .tip")?.innerText));
  const ecdf = page.locator("#ecdf .chart");
  await ecdf.focus();
  for (let step = 0; step < 30; step += 1) await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => /% at most[^]*ms/.test(document.querySelector("#ecdf output").textContent));
  await shot(page, "hover");
  assert.deepEqual(wrong, []);
  await close();
});

test("windows in which an SLO broke are marked, and told in words", async () => {
  const { page, close } = await opened();
  const note = await page.textContent("#time-note");
  assert.match(note, /In red within a stage, an SLO did not hold: instant in c\d+ at [\d.]+ to [\d.]+ s/);
  assert.ok((await page.locator("#timelines figure").first().locator('svg path[stroke-dasharray]').count()) > 0);
  await close();
});

test("several backends stand side by side, and what differs between them", async () => {
  const { page, close } = await opened();
  assert.ok((await page.locator("#backends li").count()) > 0);
  assert.ok((await page.locator("#environment details table tbody tr").count()) > 0);
  await close();
});

test("zoom buttons narrow what is seen and show all of it again", async () => {
  const { page, close } = await opened();
  const figure = page.locator("#timelines figure").first();
  const labels = async () => (await figure.locator("svg text").allTextContents()).sort();
  await settled(page);
  const whole = await labels();
  const drawn = (text) => page.waitForFunction(`JSON.stringify([...document.querySelectorAll("#timelines figure:first-child svg text")].map((one) => one.textContent).sort()) ${text} ${JSON.stringify(JSON.stringify(whole))}`);
  await figure.getByRole("button", { name: /Zoom in/ }).click();
  await drawn("!==");
  await figure.getByRole("button", { name: /Show all/ }).click();
  await drawn("===");
  await close();
});

test("filters leave the verdicts that were asked for, and cells can be taken out of the charts", async () => {
  const { page, wrong, close } = await opened();
  const rows = page.locator("#slos tbody tr:not(.said):visible");
  const all = await rows.count();
  await page.selectOption("#state", "fail");
  assert.deepEqual([...new Set(await rows.locator(".badge").allTextContents())].map((text) => text.trim().split(/\s+/).at(-1)), ["fail"]);
  assert.ok((await rows.count()) < all);
  await page.selectOption("#state", "");
  await page.fill("#words", "no-such-cell");
  assert.equal(await rows.count(), 0);
  assert.equal(await page.textContent("#shown"), "0 verdicts");
  assert.equal(await page.locator("#none").innerText(), "No verdict has “no-such-cell” in its line.");
  assert.ok(!(await page.locator("#slos thead").isVisible()));
  await page.fill("#words", "");
  assert.ok(await page.locator("#slos thead").isVisible());
  const lines = () => page.locator("#ecdf svg path").count();
  const before = await lines();
  await page.locator("#cells input").first().uncheck();
  assert.ok((await lines()) < before);
  for (const box of await page.locator("#cells input").all()) await box.uncheck();
  assert.equal(await page.locator("#ecdf .empty").textContent(), "Nothing to draw for this choice.");
  for (const box of await page.locator("#cells input").all()) await box.check();
  for (const select of ["latency", "over", "metric", "stage", "run", "slow-stage"]) {
    for (const value of await page.$$eval(`#${select} option`, (all) => all.map((one) => one.value))) await page.selectOption(`#${select}`, value);
  }
  await page.check("#log");
  assert.deepEqual(wrong, []);
  await close();
});

test("each chart's values can be read as a table", async () => {
  const { page, close } = await opened();
  for (const figure of await page.locator("figure").all()) {
    await figure.locator("summary").click();
    await figure.locator("tbody tr").first().waitFor();
  }
  await close();
});

test("the keyboard reaches every control", async () => {
  const { page, close } = await opened();
  const wanted = await controls(page);
  assert.equal(await reachable(page, wanted), wanted);
  await close();
});

for (const scheme of ["light", "dark"]) {
  test(`axe finds nothing serious on the ${scheme} page`, async () => {
    const { page, wrong, close } = await opened({ colorScheme: scheme });
    for (const details of await page.locator("details").all()) await details.evaluate((one) => (one.open = true));
    assert.deepEqual(await serious(page), []);
    assert.deepEqual(wrong, []);
    if (scheme === "dark") {
      for (const details of await page.locator("details").all()) await details.evaluate((one) => (one.open = false));
      await shot(page, "dark", { fullPage: true });
    }
    await close();
  });
}

test("a phone needs no sideways scrolling, whatever an engine said", async () => {
  const { page, close } = await opened({ viewport: { width: 390, height: 844 } });
  await page.evaluate(() => {
    const list = document.querySelector("#verdicts").appendChild(document.createElement("ul"));
    list.className = "failures";
    list.appendChild(document.createElement("li")).textContent = `errors vllm/c16: refused ×60 ({"error":"${"upstream_connect_error_or_disconnect/".repeat(6)}"}), from 0s to the end`;
  });
  const [content, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= seen, `${content} > ${seen}`);
  await shot(page, "phone");
  await close();
});

test("without JavaScript the tables are there", async () => {
  const { page, close } = await opened({ javaScriptEnabled: false });
  assert.ok((await page.locator("#slos tbody tr").count()) > 0);
  assert.ok((await page.locator("#results tbody tr").count()) > 0);
  await close();
});

// The page with other data in it.
const other = (change) => {
  const folder = mkdtempSync(path.join(tmpdir(), "page-"));
  const file = path.join(folder, "report.html");
  writeFileSync(file, readFileSync(report, "utf8").replace(/(id="report-data">)(.*?)(<\/script>)/s, (_, head, data, tail) => {
    const it = JSON.parse(data);
    change(it);
    return head + JSON.stringify(it).replaceAll("<", "\\u003c") + tail;
  }));
  after(() => rmSync(folder, { recursive: true }));
  return pathToFileURL(file).href;
};
const stages = (it) => it.report.cells.flatMap((cell) => cell.stages).filter((stage) => stage.numbers);

test("what failed is never green, and what was never ready is there", async () => {
  const url = other((it) => {
    for (const { numbers } of stages(it)) Object.assign(numbers, { outcomes: { refused: numbers.ok, reset: 1 }, ok: 0, lost: 1 });
    const [cell] = it.report.cells;
    it.report.cells.push({ ...cell, id: "dead/m/chat/l", ended: true, stages: cell.stages.map((stage) => ({ ...stage, numbers: null })) });
    it.names.push("dead");
    it.colours.push("#123456");
  });
  const { page, wrong, close } = await look(browser, url, { allowed: () => false });
  const figure = page.locator("#ends");
  const fills = () => figure.locator("svg path").evaluateAll((all) => all.map((one) => one.getAttribute("fill")));
  assert.ok((await fills()).includes("#b3201b"));
  assert.ok(!(await fills()).includes("#2e8b57"));
  assert.match(await figure.locator("svg").textContent(), /dead [^:]+: no data/);
  await page.locator("#pareto .chart").scrollIntoViewIfNeeded();
  assert.ok((await page.locator('#level svg path[fill="#b3201b"]').count()) > 0, "its points are crossed");
  assert.deepEqual(wrong, []);
  await close();
});

test("on paper charts keep to their boxes, and what was chosen is written out", async () => {
  const { page, close } = await opened();
  await page.selectOption("#stage", { index: 0 });
  const stage = await page.inputValue("#stage");
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  await page.emulateMedia({ media: "print" });
  for (const width of [680, 1000]) {
    await page.setViewportSize({ width, height: 900 });
    const wide = await page.$$eval("figure", (all) => all.filter((one) => {
      const [box, svg] = [one.getBoundingClientRect(), one.querySelector("svg").getBoundingClientRect()];
      return svg.right > box.right || svg.width < 0.8 * box.width;
    }).map((one) => one.id || one.dataset.metrics));
    assert.deepEqual(wide, [], `at ${width}`);
  }
  const chosen = await page.locator(".chosen:visible").allTextContents();
  assert.ok(chosen.some((text) => text.includes(`Stage: ${stage}`)), chosen.join("\n"));
  assert.ok(chosen.some((text) => text.startsWith("Run: ")), chosen.join("\n"));
  await page.emulateMedia({ media: "screen" });
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  await page.setViewportSize({ width: 1280, height: 900 });
  await settled(page);
  assert.equal(await page.locator(".chosen:visible").count(), 0);
  await close();
});

test("paper is white", async () => {
  const { page, close } = await opened({ colorScheme: "dark" });
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
  await page.emulateMedia({ media: "print", colorScheme: "light" });
  await shot(page, "print", { fullPage: true });
  await close();
});
