// Opens the page of a comparison in headless Chromium as a reader would. `node --test web/compare.test.mjs`, with
// COMPARISON=page.html, SCREENSHOTS=folder (optional), CHROMIUM=/usr/bin/chromium.
import assert from "node:assert/strict";
import path from "node:path";
import test, { after, before } from "node:test";
import { pathToFileURL } from "node:url";
import { controls, launch, look, reachable, serious, shot } from "./browser.mjs";

const comparison = path.resolve(process.env.COMPARISON);
let browser;

before(async () => (browser = await launch()));
after(() => browser?.close());

const opened = (options) => look(browser, pathToFileURL(comparison).href, { options, allowed: () => false });

test("what became worse stands in words, with both values and an interval", async () => {
  const { page, wrong, close } = await opened();
  assert.match(await page.title(), / against /);
  assert.match(await page.textContent(".status"), /\d+ (worse|better).*hold together with 95 % confidence/s);
  const row = page.locator("tbody tr", { hasText: "ttft.p95" }).first();
  const texts = await row.locator("td").allTextContents();
  assert.match(texts[3], /\d ?m?s/);
  assert.match(texts[6], /% to .*%/);
  assert.match(texts[7], /(worse|better)/);
  assert.deepEqual(wrong, []);
  await close();
});

test("filters leave what was asked for", async () => {
  const { page, wrong, close } = await opened();
  const rows = page.locator("#rows tbody tr:visible");
  const all = await rows.count();
  await page.selectOption("#finding", "fail");
  const left = await rows.locator(".badge").allTextContents();
  assert.ok(left.length > 0 && left.length < all && left.every((text) => text.includes("worse")), left.join());
  await page.selectOption("#finding", "");
  await page.fill("#words", "ttft.p95");
  assert.ok((await rows.count()) > 0 && (await rows.count()) < all);
  assert.match(await page.textContent("#shown"), /^\d+ rows?$/);
  assert.deepEqual(wrong, []);
  await close();
});

for (const scheme of ["light", "dark"]) {
  test(`the keyboard reaches every control, and axe finds nothing serious on the ${scheme} page`, async () => {
    const { page, wrong, close } = await opened({ colorScheme: scheme });
    const wanted = await controls(page);
    assert.ok(wanted > 0);
    assert.equal(await reachable(page, wanted), wanted);
    assert.deepEqual(await serious(page), []);
    await shot(page, `compare-${scheme}`, { fullPage: true });
    assert.deepEqual(wrong, []);
    await close();
  });
}

test("a phone needs no sideways scrolling, and without JavaScript every row is there", async () => {
  const phone = await opened({ viewport: { width: 390, height: 844 } });
  const [content, seen] = await phone.page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= seen, `${content} > ${seen}`);
  await shot(phone.page, "compare-phone");
  await phone.close();
  const plain = await opened({ javaScriptEnabled: false });
  assert.ok((await plain.page.locator("#rows tbody tr:visible").count()) > 0);
  await plain.close();
});
