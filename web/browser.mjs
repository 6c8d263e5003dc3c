// What the tests of pages share: a headless Chromium that notes everything that must not happen.
// CHROMIUM=/usr/bin/chromium, SCREENSHOTS=folder (optional).
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const shots = process.env.SCREENSHOTS;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function launch() {
  if (shots) mkdirSync(shots, { recursive: true });
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

// A page with what must not happen on it: words on the console, errors, requests that are not `allowed`.
export async function look(browser, url, { options = {}, allowed }) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => /^(https?|wss?):/.test(request.url()) && !allowed(request.url()) && wrong.push(`asked for ${request.url()}`));
  await page.goto(url);
  return { page, wrong, close: () => context.close() };
}

export async function shot(page, name, options) {
  if (shots) await page.screenshot({ path: path.join(shots, `${name}.png`), ...options });
}

// Charts have the width of their boxes, which other figures have changed while they were drawn.
export async function settled(page) {
  const fits = (one) => one.querySelector("svg").clientWidth === one.clientWidth;
  await page.waitForFunction(`[...document.querySelectorAll(".chart")].every(${fits})`);
}

export const emptyFigures = (page) => page.$$eval("figure", (all) => all.filter((one) => one.querySelectorAll(".chart svg path").length < 3).map((one) => one.textContent.slice(0, 60)));

export async function serious(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.filter((one) => ["serious", "critical"].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).slice(0, 3).join("; ")}`);
}

// Numbers everything that can be used, and counts it.
export const controls = (page) => page.$$eval("a[href], select, input, button, summary, [tabindex='0']", (all) => {
  const seen = all.filter((one) => one.checkVisibility());
  seen.forEach((one, at) => (one.controlNumber = at));
  return seen.length;
});

// How many of them the Tab key reaches.
export async function reachable(page, wanted) {
  const reached = new Set();
  for (let step = 0; step < wanted + 20; step += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => document.activeElement?.controlNumber);
    if (at !== undefined) reached.add(at);
  }
  return reached.size;
}
