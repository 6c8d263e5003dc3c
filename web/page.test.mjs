// Opens a report in headless Chromium as a reader would. `node --test web/page.test.mjs`, with
// REPORT=report.html, SCREENSHOTS=folder (optional), CHROMIUM=/usr/bin/chromium.
import assert from "node:assert/strict";
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
  await page.fill("#words", "");
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

test("a phone needs no sideways scrolling", async () => {
  const { page, close } = await opened({ viewport: { width: 390, height: 844 } });
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

test("paper is white", async () => {
  const { page, close } = await opened({ colorScheme: "dark" });
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
  await page.emulateMedia({ media: "print", colorScheme: "light" });
  await shot(page, "print", { fullPage: true });
  await close();
});
