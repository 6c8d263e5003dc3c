// Keeps the page of a run that goes on up to date: hears that there is news, fetches the page, and changes what differs.
"use strict";
(() => {
  const PARTS = ["header", "#verdicts", "#results", "#backends", "#environment", "#scenario"];

  // Makes `old` like `fresh` and leaves alone what a reader has done: what is open, focused, chosen, filtered.
  function match(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    const theirs = (name) => ["open", "hidden", "data-chosen"].includes(name);
    for (const { name } of [...old.attributes]) if (!theirs(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (!theirs(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (old.id === "shown") return;
    const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
    before.slice(after.length).forEach((node) => node.remove());
    after.forEach((node, at) => (at < before.length ? match(before[at], node) : old.append(document.importNode(node, true))));
  }

  let under = false;
  let number = null;
  async function refresh() {
    if (under) return;
    under = true;
    try {
      const answer = await fetch(`page${location.search}`, { cache: "no-cache" });
      if (!answer.ok || answer.headers.get("etag") === number) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      number = answer.headers.get("etag");
      document.title = fresh.title;
      PARTS.forEach((part, at) => {
        const [old, now] = [document.querySelector(part), fresh.querySelector(part)];
        if (old && now) match(old, now);
        // Backends stand side by side when the last has had its turn.
        else if (now) document.querySelector(PARTS[at - 1]).after(document.importNode(now, true));
      });
      globalThis.bringUpToDate(fresh.getElementById("report-data").textContent);
    } catch {
      // The next event comes in a second; when none comes, the source of events says so.
    } finally {
      under = false;
    }
  }

  const news = new EventSource(`events${location.search}`);
  let over = false;
  news.addEventListener("progress", async (event) => {
    await refresh();
    if (!over) document.getElementById("now").textContent = JSON.parse(event.data);
  });
  news.addEventListener("over", async () => {
    over = true;
    news.close();
    while (under) await new Promise((done) => setTimeout(done, 20));
    await refresh();
    document.getElementById("now").textContent = "The run is over; its server has gone. Everything stays on this page and in report.html.";
  });
  news.addEventListener("error", () => {
    if (!over) document.getElementById("now").textContent = "The run does not answer; trying again.";
  });
})();
