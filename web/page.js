// Draws what is in #report-data with the chart library. Everything that a table can say is already in the page.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const live = document.documentElement.dataset.live !== undefined;
  let report, drawn, failing, cells, byId, stageNames;
  function read(text) {
    let names, colours;
    ({ report, charts: drawn, names, colours, failing } = JSON.parse(text));
    cells = report.cells.map((cell, at) => ({ ...cell, short: names[at], colour: colours[at], at }));
    byId = new Map(cells.map((cell) => [cell.id, cell]));
    drawn.stages = drawn.stages.filter((stage) => stage.distributions.length > 0 || stage.slowest.length > 0);
    stageNames = [...new Set(drawn.stages.map((stage) => stage.stage))];
  }
  read($("report-data").textContent);

  // ---- words ---------------------------------------------------------------------------------------------------------

  const METRICS = {
    "ttft": "TTFT", "e2e": "E2E latency", "tpot": "TPOT", "itl": "ITL", "icl": "chunk gap", "send_lag": "the client's send lag",
    "output_tps": "output throughput", "rps": "requests per second", "goodput": "goodput",
    "in_flight": "requests in flight", "sent": "sent", "answered": "answered", "failed": "failed",
    "gpu.util": "GPU utilization", "gpu.memory_used": "GPU memory used", "gpu.power": "GPU power", "gpu.temperature": "GPU temperature",
    "gpu.sm_clock": "GPU clock", "kv_cache": "KV cache used", "queue": "engine queue", "running": "running in the engine",
    "client.cpu": "the client's CPU", "client.rss": "the client's memory", "client.lag": "the client's lag", "client.loop": "the client's longest turn",
    "error_rate": "error rate", "energy_per_token": "energy per token",
  };
  const named = (metric) => METRICS[metric] ?? metric;
  const digits = (value) => {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  };
  const told = (value, unit) => {
    if (value === null || value === undefined) return "–";
    if (unit === "") return `${digits(value * 100)} %`;
    if (unit === "B") return `${digits(value / 2 ** 30)} GiB`;
    if (unit === "ms" && Math.abs(value) >= 10000) return `${digits(value / 1000)} s`;
    return `${digits(value)} ${unit}`;
  };

  // ---- one figure ----------------------------------------------------------------------------------------------------

  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const figures = new Map();
  // On paper a chart is drawn at the width of a page's column, and scaled with it.
  const PAPER = 700;
  let onPaper = false;
  const sizes = new ResizeObserver((seen) => {
    if (onPaper) return;
    for (const { target } of seen) figures.get(target.parentElement)?.chart?.resize();
  });

  // `make` gives { option, table: { head, rows }, about }, or nothing when there is nothing to draw.
  function figure(element, make, tall) {
    figures.set(element, { make, tall, chart: null, focus: [0, -1], stale: false });
    redraw(element);
  }

  // Draws what is new where it is: what is zoomed stays zoomed, and a chart that a reader is at waits until they leave it.
  function update(element) {
    const it = figures.get(element);
    it.stale = element.matches(":hover") || element.querySelector(".chart")?.contains(document.activeElement);
    if (!it.stale) redraw(element, true);
  }

  function redraw(element, keep) {
    const it = figures.get(element);
    const made = it.make();
    let box = element.querySelector(".chart");
    element.querySelector(".empty")?.remove();
    if (!made) {
      it.chart?.dispose();
      it.chart = null;
      for (const part of element.querySelectorAll(".chart, .tools, output, details")) part.remove();
      const empty = document.createElement("p");
      empty.className = "empty";
      empty.textContent = "Nothing to draw for this choice.";
      element.append(empty);
      return;
    }
    if (!box) {
      box = furnish(element, it);
      sizes.observe(box);
    }
    it.made = made;
    if (keep && it.chart) {
      const zoomed = it.chart.getOption().dataZoom?.[0];
      it.chart.setOption(dressed(made.option), { notMerge: true });
      if (zoomed && (zoomed.start > 0 || zoomed.end < 100)) it.chart.dispatchAction({ type: "dataZoom", start: zoomed.start, end: zoomed.end });
    } else {
      it.chart?.dispose();
      it.chart = charts.init(box, null, { renderer: "svg", ...(onPaper ? { width: PAPER, height: it.tall ? 380 : 290 } : {}) });
      it.chart.setOption(dressed(made.option));
    }
    if (onPaper) {
      const svg = box.querySelector("svg");
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
    }
    box.setAttribute("aria-label", `${element.querySelector("figcaption").textContent}. ${made.about} Arrow keys walk through the values; plus, minus and zero zoom.`);
    const details = element.querySelector("details");
    if (details.open) tabulate(element);
  }

  // The parts of a figure around its chart: zoom buttons and the same values as a table.
  function furnish(element, it) {
    const box = document.createElement("div");
    box.className = it.tall ? "chart tall" : "chart";
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.addEventListener("keydown", (event) => walk(element, event));
    const left = () => it.stale && update(element);
    element.addEventListener("pointerleave", left);
    box.addEventListener("blur", () => setTimeout(left));
    const tools = document.createElement("div");
    tools.className = "tools";
    for (const [label, text, by] of [["Zoom in", "+", 0.5], ["Zoom out", "−", 2], ["Show all", "all", 0]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-label", `${label}: ${element.querySelector("figcaption").textContent}`);
      button.addEventListener("click", () => zoom(element, by));
      tools.append(button);
    }
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "The values as a table";
    details.append(summary);
    details.addEventListener("toggle", () => details.open && tabulate(element));
    const said = document.createElement("output");
    said.className = "unseen";
    element.append(tools, box, said, details);
    return box;
  }

  function dressed(option) {
    const [ink, quiet, line, paper] = ["ink", "quiet", "line", "paper"].map(colour);
    const axis = (it) => ({
      nameTextStyle: { color: quiet }, nameLocation: "middle",
      axisLabel: { color: quiet, hideOverlap: true, ...it.axisLabel }, axisLine: { lineStyle: { color: line } },
      splitLine: { lineStyle: { color: line } }, ...it, ...(it.axisLabel ? { axisLabel: { color: quiet, hideOverlap: true, ...it.axisLabel } } : {}),
    });
    const list = (it) => (Array.isArray(it) ? it : [it]);
    // Nobody scrolls a legend on paper: it takes the lines that it needs.
    const names = (option.legend?.data ?? option.series.map((one) => one.name)).filter((name, at, all) => name && all.indexOf(name) === at);
    const lines = onPaper ? names.reduce(([count, used], name) => {
      const width = 45 + 7 * name.length;
      return used + width > PAPER - 20 ? [count + 1, width] : [count, used + width];
    }, [1, 0])[0] : 1;
    const grid = { left: 64, right: 20, top: 38, bottom: 46, ...option.grid };
    return {
      animation: false,
      textStyle: { color: ink, fontFamily: getComputedStyle(document.body).fontFamily },
      dataZoom: [{ type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, filterMode: "none" }],
      ...option,
      grid: { ...grid, top: grid.top + (lines - 1) * 24 },
      legend: option.legend === false ? undefined : { type: onPaper ? "plain" : "scroll", top: 0, selectedMode: false, textStyle: { color: ink }, pageTextStyle: { color: quiet }, pageIconColor: ink, pageIconInactiveColor: line, ...option.legend },
      tooltip: { className: "tip", confine: true, backgroundColor: paper, borderColor: line, textStyle: { color: ink }, ...option.tooltip },
      xAxis: list(option.xAxis).map((it) => axis({ nameGap: 28, ...it })),
      yAxis: list(option.yAxis).map((it) => axis({ nameGap: 46, ...it })),
    };
  }

  function walk(element, event) {
    const it = figures.get(element);
    const series = it.chart.getOption().series.map((one, at) => ({ at, length: (one.data ?? []).length })).filter((one) => one.length > 0);
    if (series.length === 0) return;
    const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const zooms = { "+": 0.5, "-": 2, "0": 0 };
    if (event.key in zooms) zoom(element, zooms[event.key]);
    else if (event.key === "Escape") it.chart.dispatchAction({ type: "hideTip" });
    else if (event.key in steps) {
      const [down, right] = steps[event.key];
      it.focus[0] = (it.focus[0] + down + series.length) % series.length;
      const { at, length } = series[it.focus[0]];
      it.focus[1] = Math.max(0, Math.min(length - 1, it.focus[1] + right));
      it.chart.dispatchAction({ type: "showTip", seriesIndex: at, dataIndex: it.focus[1] });
      // What a reader of the screen is told.
      setTimeout(() => (element.querySelector("output").textContent = element.querySelector(".tip")?.innerText ?? ""), 30);
    } else return;
    event.preventDefault();
  }

  // `by` scales what is seen of the x axis around its middle; 0 shows all of it.
  function zoom(element, by) {
    const { chart } = figures.get(element);
    const seen = chart.getOption().dataZoom?.[0];
    if (!seen) return;
    const middle = (seen.start + seen.end) / 2;
    const half = by === 0 ? 50 : Math.min(50, ((seen.end - seen.start) / 2) * by);
    const start = by === 0 ? 0 : Math.max(0, Math.min(100 - 2 * half, middle - half));
    chart.dispatchAction({ type: "dataZoom", start, end: start + 2 * half });
  }

  function tabulate(element) {
    const details = element.querySelector("details");
    details.querySelector(".wide")?.remove();
    const { head, rows } = figures.get(element).made.table;
    const wide = document.createElement("div");
    wide.className = "wide";
    wide.tabIndex = 0;
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", `Values: ${element.querySelector("figcaption").textContent}`);
    const table = wide.appendChild(document.createElement("table"));
    const line = table.createTHead().insertRow();
    for (const title of head) {
      const cell = line.appendChild(document.createElement("th"));
      cell.scope = "col";
      cell.textContent = title;
    }
    const body = table.createTBody();
    for (const values of rows) {
      const row = body.insertRow();
      values.forEach((value, at) => {
        const cell = row.appendChild(document.createElement(at === 0 ? "th" : "td"));
        if (at === 0) cell.scope = "row";
        cell.textContent = value;
      });
    }
    details.append(wide);
  }

  const redrawAll = (keep = true) => [...figures.keys()].forEach((element) => redraw(element, keep));
  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  // ---- controls ------------------------------------------------------------------------------------------------------

  const hidden = new Set();
  const shown = () => cells.filter((cell) => !hidden.has(cell.id));

  // What a reader has chosen stays chosen when the page is brought up to date.
  function choices(select, pairs, usual) {
    // Nothing to choose from needs no control.
    select.closest("label").hidden = pairs.length === 0;
    const kept = select.dataset.chosen;
    const chosen = pairs.some(([value]) => value === kept) ? kept : usual;
    select.onchange ??= () => (select.dataset.chosen = select.value);
    if (select.options.length === pairs.length && pairs.every(([value, text], at) => select.options[at].value === value && select.options[at].text === text)) {
      if (chosen !== undefined) select.value = chosen;
      return;
    }
    select.replaceChildren(...pairs.map(([value, text]) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = text;
      option.selected = value === chosen;
      return option;
    }));
  }

  function cellBoxes() {
    const ids = cells.map((cell) => cell.id).join("\n");
    if ($("cells").dataset.ids === ids) return;
    $("cells").dataset.ids = ids;
    $("cells").querySelectorAll("label").forEach((label) => label.remove());
    for (const cell of cells) {
      const label = document.createElement("label");
      const box = label.appendChild(document.createElement("input"));
      box.type = "checkbox";
      box.addEventListener("change", () => {
        box.checked ? hidden.delete(cell.id) : hidden.add(cell.id);
        redrawAll();
      });
      box.checked = !hidden.has(cell.id);
      const swatch = label.appendChild(document.createElement("span"));
      swatch.className = "swatch";
      swatch.style.background = cell.colour;
      label.append(cell.short);
      $("cells").append(label);
    }
  }

  function filterVerdicts() {
    const state = $("state")?.value ?? "";
    const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    let visible = false;
    for (const row of $("slos").tBodies[0].rows) {
      if (!row.classList.contains("said")) {
        const own = row.dataset.state;
        const text = row.textContent.toLowerCase();
        visible = (state === "" || own === state || (state === "not-pass" && own !== "pass")) && words.every((word) => text.includes(word));
        count += visible ? 1 : 0;
      }
      row.hidden = !visible;
    }
    $("shown").textContent = `${count} verdict${count === 1 ? "" : "s"}`;
    const none = count === 0 && $("slos").tBodies[0].rows.length > 0;
    $("none").hidden = !none;
    $("slos").tHead.hidden = none;
    if (none) $("none").textContent = `No verdict ${state === "" ? "" : `is ${$("state").selectedOptions[0].text.replace("what did not pass", "other than passed")}`}${state && words.length ? " and " : ""}${words.length ? `has “${words.join(" ")}” in its line` : ""}.`;
  }

  // ---- curves --------------------------------------------------------------------------------------------------------

  const LATENCIES = [
    ["ttft p95", "TTFT p95"], ["ttft p50", "TTFT p50"], ["ttft p99", "TTFT p99"], ["e2e p95", "E2E p95"], ["e2e p50", "E2E p50"],
    ["tpot p50", "TPOT p50"], ["tpot p95", "TPOT p95"], ["itl p50", "ITL p50"], ["itl p99", "ITL p99"], ["icl p99", "chunk gap p99"],
  ];
  const OVER = [
    ["output_tps value", "output throughput"], ["rps value", "requests per second"], ["goodput value", "goodput"], ["error_rate value", "error rate"],
    ["gpu.util mean", "GPU utilization"], ["gpu.power mean", "GPU power"], ["gpu.memory_used max", "GPU memory used"],
    ["energy_per_token value", "energy per token"], ["kv_cache mean", "KV cache used"], ["queue mean", "engine queue"],
  ];
  // A statistic of a stage with its unit and 95 % interval; latencies of open-loop stages count from the planned instant.
  function statistic(stage, choice) {
    const [metric, stat] = choice.split(" ");
    const metrics = stage.numbers?.metrics ?? {};
    const it = (stage.open_loop && metrics[`${metric}_intended`]) || metrics[metric];
    const value = it && (it[stat] ?? (stat === "value" ? it.mean : undefined));
    return value === undefined || value === null ? null : { value, unit: it.unit, n: it.n, interval: it.intervals?.[stat], repeats: repeats(stage, choice) };
  }
  function repeats(stage, choice) {
    return (stage.repeats ?? []).map((one) => statistic({ ...stage, numbers: one.numbers, repeats: [] }, choice)?.value).filter((value) => value !== undefined);
  }
  const measured = (cell) => cell.stages.filter((stage) => stage.measured && stage.numbers);
  const offered = (stage) => stage.users ?? stage.rate ?? null;
  const loadName = () => {
    const stages = shown().flatMap(measured);
    if (stages.every((stage) => stage.users != null)) return "concurrent users";
    if (stages.every((stage) => stage.rate != null)) return "requests per second offered";
    return "stage";
  };
  const FAILED = "#b3201b";
  const DASHES = ["solid", "dashed", "dotted", [8, 3, 2, 3], [2, 2]];
  const SYMBOLS = ["circle", "triangle", "diamond", "rect", "pin"];
  // Cells of one backend share its colour; their lines differ.
  const styled = (cell) => {
    const alike = cells.filter((other) => other.colour === cell.colour && other.at < cell.at).length;
    return { symbol: SYMBOLS[alike % SYMBOLS.length], symbolSize: 8, lineStyle: { type: DASHES[alike % DASHES.length], width: 2 }, itemStyle: { color: cell.colour } };
  };
  // The numbers of a stage of which more than 1 % failed are those of the survivors: their points are crossed.
  const lost = (stage) => stage.numbers.lost ?? 0;
  const CROSS = "path://M1,0 L5,4 L9,0 L10,1 L6,5 L10,9 L9,10 L5,6 L1,10 L0,9 L4,5 L0,1 Z";
  const crossed = (stage) => (lost(stage) > 0 ? { symbol: CROSS, symbolSize: 12, itemStyle: { color: FAILED } } : {});
  const survivors = (stage) => (lost(stage) > 0 ? [`✗ ${told(lost(stage), "")} of the requests failed: the numbers are those of the survivors`] : []);
  // Where lines tell percentiles apart, the second cell of a backend is told by a lighter colour, the third by a darker one.
  const SHADES = ["", "white 45%", "black 40%", "white 65%"];
  const shade = (cell) => {
    const alike = cells.filter((other) => other.colour === cell.colour && other.at < cell.at).length % SHADES.length;
    if (alike === 0) return cell.colour;
    const [towards, by] = SHADES[alike].split(" ");
    const part = Number.parseInt(by, 10) / 100;
    const mixed = [1, 3, 5].map((at) => Number.parseInt(cell.colour.slice(at, at + 2), 16) * (1 - part) + (towards === "white" ? 255 * part : 0));
    return `#${mixed.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("")}`;
  };
  // Axes show shares in percent and bytes in GiB.
  const unitName = (unit) => ({ "": "%", B: "GiB" })[unit] ?? unit;
  const scaled = (value, unit) => (value === null ? null : unit === "" ? value * 100 : unit === "B" ? value / 2 ** 30 : value);

  function points(x, y) {
    return shown().map((cell) => ({
      cell,
      points: measured(cell).map((stage) => ({ stage, x: x(stage), y: y(stage) })).filter((point) => point.x !== null && point.y),
    })).filter((line) => line.points.length > 0);
  }

  // Error bars: from the smallest to the largest repeat where there are several, else the 95 % interval.
  function bars(lines) {
    const data = lines.flatMap(({ cell, points: all }) => all.flatMap(({ x, y }) => {
      const range = y.repeats.length > 1 ? [Math.min(...y.repeats), Math.max(...y.repeats)] : y.interval;
      return range ? [{ value: [x, ...range.map((v) => scaled(v, y.unit))], itemStyle: { color: cell.colour } }] : [];
    }));
    return {
      type: "custom", data, silent: true, tooltip: { show: false }, encode: { x: 0, y: [1, 2] }, z: 1,
      renderItem: (_, api) => {
        const [high, low] = [api.coord([api.value(0), api.value(2)]), api.coord([api.value(0), api.value(1)])];
        const style = { stroke: api.visual("color"), lineWidth: 1.2, opacity: 0.75 };
        const cap = (at) => ({ type: "line", shape: { x1: at[0] - 4, y1: at[1], x2: at[0] + 4, y2: at[1] }, style });
        return { type: "group", children: [{ type: "line", shape: { x1: high[0], y1: high[1], x2: low[0], y2: low[1] }, style }, cap(high), cap(low)] };
      },
    };
  }

  // What a legend names besides lines: cells that have no value here, and what a cross means.
  function alsoNamed(drawnCells, anyLost) {
    const missing = shown().filter((cell) => cell.ended && !drawnCells.includes(cell));
    const entry = (name, symbol, color) => ({ type: "line", name, symbol, itemStyle: { color }, lineStyle: { width: 0 }, data: [] });
    return [...missing.map((cell) => entry(`${cell.short}: no data`, "none", cell.colour)), ...(anyLost ? [entry("requests failed", CROSS, FAILED)] : [])];
  }

  function curve(x, xName, y, yName, xText, label) {
    const lines = points(x, y);
    if (lines.length === 0) return null;
    const unit = lines[0].points[0].y.unit;
    const said = ({ stage, x: at, y: value }) => [stage.name, xText(at, stage), told(value.value, value.unit), value.interval ? `${told(value.interval[0], value.unit)} to ${told(value.interval[1], value.unit)}` : "–", digits(value.n)];
    return {
      about: `${yName} over ${xName}, ${lines.length} line${lines.length === 1 ? "" : "s"}.`,
      option: {
        tooltip: { trigger: "item", formatter: ({ data }) => (data?.said ? data.said.map(escaped).join("<br>") : "") },
        xAxis: { type: "value", name: xName, scale: false },
        yAxis: { type: "value", name: `${yName} (${unitName(unit)})`, min: 0 },
        series: [
          ...lines.map(({ cell, points: all }, at) => ({
            type: "line", name: cell.short, ...styled(cell), z: 3,
            ...(label ? { label: { show: true, position: at % 2 ? "bottom" : "top", fontSize: 10, color: colour("quiet"), formatter: ({ data }) => data.level }, labelLayout: { hideOverlap: true } } : {}),
            data: all.map((point) => ({ value: [point.x, scaled(point.y.value, unit)], level: label?.(point.stage), ...crossed(point.stage), said: [`${cell.short} ${point.stage.name}`, xText(point.x, point.stage), `${yName} ${told(point.y.value, unit)}`, point.y.interval ? `95 %: ${told(point.y.interval[0], unit)} to ${told(point.y.interval[1], unit)}` : `${digits(point.y.n)} samples`, ...survivors(point.stage)] })),
          })),
          bars(lines),
          ...alsoNamed(lines.map(({ cell }) => cell), lines.some((line) => line.points.some(({ stage }) => lost(stage) > 0))),
        ],
      },
      table: {
        head: ["cell", "stage", xName, yName, "95 % interval", "samples"],
        rows: lines.flatMap(({ cell, points: all }) => all.map((point) => [cell.short, ...said(point)])),
      },
    };
  }

  const text = (pairs, value) => pairs.find(([key]) => key === value)?.[1] ?? value;
  const loadText = (at) => `${digits(at)} ${loadName()}`;
  function pareto() {
    const y = $("latency").value;
    return curve((stage) => statistic(stage, "output_tps value")?.value ?? null, "output throughput (tok/s)", (stage) => statistic(stage, y), text(LATENCIES, y), (at, stage) => `${digits(at)} tok/s at ${stage.name}`, (stage) => stage.name);
  }
  function level() {
    const y = $("over").value;
    return curve(offered, loadName(), (stage) => statistic(stage, y), text(OVER, y), loadText);
  }
  function percentiles() {
    const metric = $("latency").value.split(" ")[0];
    const lines = ["p50", "p95", "p99"].map((stat) => points(offered, (stage) => statistic(stage, `${metric} ${stat}`)));
    if (lines.every((line) => line.length === 0)) return null;
    return {
      about: `p50, p95 and p99 of ${named(metric)} over the load.`,
      option: {
        tooltip: { trigger: "item", formatter: ({ data }) => (data?.said ? data.said.map(escaped).join("<br>") : "") },
        xAxis: { type: "value", name: loadName() },
        yAxis: { type: "value", name: `${named(metric)} (ms)`, min: 0 },
        series: [...["p50", "p95", "p99"].flatMap((stat, which) => lines[which].map(({ cell, points: all }) => ({
          type: "line", name: `${cell.short} ${stat}`, itemStyle: { color: shade(cell) }, lineStyle: { type: DASHES[which], width: 2 }, symbol: SYMBOLS[which], symbolSize: 8,
          data: all.map(({ stage, x, y }) => ({ value: [x, y.value], ...crossed(stage), said: [`${cell.short} ${stage.name}`, `${named(metric)} ${stat} ${told(y.value, y.unit)}`, `${digits(y.n)} samples`, ...survivors(stage)] })),
        }))), ...alsoNamed(lines[0].map(({ cell }) => cell), lines[0].some((line) => line.points.some(({ stage }) => lost(stage) > 0)))],
      },
      table: {
        head: ["cell", "stage", "p50", "p95", "p99"],
        rows: shown().flatMap((cell) => measured(cell).map((stage) => [cell.short, stage.name, ...["p50", "p95", "p99"].map((stat) => told(statistic(stage, `${metric} ${stat}`)?.value, "ms"))])),
      },
    };
  }

  // ---- distributions -------------------------------------------------------------------------------------------------

  function distributions() {
    return drawn.stages.filter((stage) => stage.stage === $("stage").value && !hidden.has(stage.cell)).map((stage) => ({
      cell: byId.get(stage.cell), it: stage.distributions.find((one) => one.metric === $("metric").value),
    })).filter((one) => one.it);
  }
  const valueAxis = () => ({ type: $("log").checked ? "log" : "value", name: `${named($("metric").value)} (ms)`, scale: true });
  function ecdf() {
    const all = distributions();
    if (all.length === 0) return null;
    const metric = named($("metric").value);
    return {
      about: `Cumulative distribution of ${metric} in stage ${$("stage").value}.`,
      option: {
        tooltip: { trigger: "axis", axisPointer: { axis: "y" }, formatter: (all) => [`${digits(all[0].value[1])} % at most`, ...all.map((one) => `${one.marker}${escaped(one.seriesName)} ${told(one.value[0], "ms")}`)].join("<br>") },
        xAxis: valueAxis(),
        yAxis: { type: "value", name: "share of values (%)", min: 0, max: 100 },
        series: all.map(({ cell, it }) => ({
          type: "line", name: `${cell.short} (n=${digits(it.n)})`, ...styled(cell), showSymbol: false, symbolSize: 5, step: "end",
          data: it.quantiles.map((value, step) => [value, (step / (it.quantiles.length - 1)) * 100]).filter(([value]) => !$("log").checked || value > 0),
        })),
      },
      table: {
        head: ["share", ...all.map(({ cell }) => cell.short)],
        rows: [0, 10, 25, 50, 75, 90, 95, 99, 100].map((share) => [`${share} %`, ...all.map(({ it }) => told(it.quantiles[Math.ceil((share * (it.quantiles.length - 1)) / 100)], "ms"))]),
      },
    };
  }
  function histogram() {
    const all = distributions();
    if (all.length === 0) return null;
    return {
      about: `Histogram of ${named($("metric").value)} in stage ${$("stage").value}, up to the 99th percentile.`,
      option: {
        tooltip: { trigger: "axis", formatter: (all) => all.map(({ data, marker, seriesName }) => `${marker}${escaped(seriesName)} ${told(data.from, "ms")} to ${told(data.to, "ms")}: ${digits(data.value[1])}`).join("<br>") },
        xAxis: { type: "value", name: `${named($("metric").value)} (ms)`, scale: true },
        yAxis: { type: "value", name: "values", min: 0 },
        series: all.map(({ cell, it }) => ({
          type: "line", name: `${cell.short}${it.above ? ` (+${digits(it.above)} above)` : ""}`, ...styled(cell), step: "middle", showSymbol: false, areaStyle: { opacity: 0.18 },
          data: it.counts.map((count, bar) => ({ value: [it.from + (bar + 0.5) * it.width, count], from: it.from + bar * it.width, to: it.from + (bar + 1) * it.width })),
        })),
      },
      table: {
        head: ["cell", "from", "to", "values"],
        rows: all.flatMap(({ cell, it }) => it.counts.map((count, bar) => [cell.short, told(it.from + bar * it.width, "ms"), told(it.from + (bar + 1) * it.width, "ms"), digits(count)])),
      },
    };
  }

  // ---- over time -----------------------------------------------------------------------------------------------------

  const PANELS = [["ttft"], ["e2e"], ["in_flight", "running", "queue"], ["sent", "answered", "failed"], ["output_tps"], ["gpu.util", "kv_cache"], ["gpu.memory_used"], ["gpu.power"], ["gpu.temperature"], ["client.cpu"], ["client.lag"]];
  const runOf = () => drawn.runs[Number($("run").value)];
  const SERIES = { sent: "#2f6fdb", answered: "#2e8b57", failed: "#b3201b" };
  const LINES = ["#2f6fdb", "#c2571a", "#2e8b57", "#8e44ad", "#b03060", "#00838f", "#7a6a00", "#5b6470"];
  // SLOs that broke in a run: those of whole stages, and those with a window, which tell when they broke in this repeat.
  const brokenIn = (run) => failing.filter((one) => one.cell === run.cell).map((one) => ({ ...one, windows: (one.broken ?? []).filter((window) => window.repeat === run.repeat) }));
  function shades(run) {
    const broken = brokenIn(run);
    const areas = run.spans.map((span) => {
      const failed = broken.filter((one) => one.stage === span.stage);
      const whole = failed.some((one) => !one.broken);
      const back = whole ? colour("shade-fail") : span.measured ? colour("shade") : "transparent";
      const name = failed.length ? `${span.stage} ✗` : span.measured ? span.stage : "";
      return [{ xAxis: span.from_s, name, itemStyle: { color: back }, label: { color: colour(failed.length ? "fail" : "quiet") } }, { xAxis: span.to_s }];
    });
    const windows = broken.flatMap((one) => one.windows.map((window) => [{ xAxis: window.from_s, itemStyle: { color: colour("shade-fail") } }, { xAxis: window.to_s }]));
    return { silent: true, label: { position: "top", fontSize: 11 }, data: [...areas, ...windows] };
  }
  // The instants at which a window begins in which an SLO does not hold.
  function breaches(run) {
    const starts = new Set(brokenIn(run).flatMap((one) => one.windows.map((window) => window.from_s)));
    return { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: colour("fail"), type: "dashed", width: 1 }, data: [...starts].map((at) => ({ xAxis: at })) };
  }
  // Neighbouring windows are told as one.
  function joined(windows) {
    const told = [];
    for (const { from_s: from, to_s: to } of windows) {
      if (told.length && told.at(-1)[1] === from) told.at(-1)[1] = to;
      else told.push([from, to]);
    }
    return told.map(([from, to]) => `${digits(from)} to ${digits(to)} s`).join(", ");
  }
  function timeline(metrics) {
    const run = runOf();
    const lines = run.timelines.filter((line) => metrics.includes(line.metric));
    if (lines.length === 0) return null;
    const label = (line) => named(line.metric) + (line.device === undefined ? "" : ` ${line.device}`) + (line.stat === undefined ? "" : ` ${line.stat}`);
    const unit = lines[0].unit;
    return {
      about: `${lines.map(label).join(", ")} of ${run.cell}.`,
      option: {
        grid: { left: 64, right: 20, top: 54, bottom: 46 },
        tooltip: { trigger: "axis", axisPointer: { type: "line" }, formatter: (all) => [`${digits(all[0].value[0])} s`, ...all.map((one) => `${one.marker}${escaped(one.seriesName)} ${told(one.data.raw, one.data.unit)}`)].join("<br>") },
        xAxis: { type: "value", name: "seconds since the cell began", min: 0, max: run.every_s * Math.max(...lines.map((line) => line.values.length)) },
        yAxis: { type: "value", name: unitName(unit), min: 0 },
        series: lines.map((line, at) => ({
          type: "line", name: label(line), showSymbol: line.values.length < 30 || line.stat !== undefined, symbolSize: 4, lineStyle: { width: 1.6 }, itemStyle: { color: SERIES[line.metric] ?? LINES[at % LINES.length] },
          data: line.values.map((value, point) => ({ value: [(point + 0.5) * run.every_s, scaled(value, line.unit)], raw: value, unit: line.unit })),
          ...(at === 0 ? { markArea: shades(run), markLine: breaches(run) } : {}),
        })),
      },
      table: {
        head: ["seconds", ...lines.map((line) => `${label(line)} (${unitName(line.unit)})`)],
        rows: lines[0].values.map((_, point) => [digits(point * run.every_s), ...lines.map((line) => digits(scaled(line.values[point], line.unit)))]),
      },
    };
  }
  function timelines(keep) {
    const run = runOf();
    const seen = new Set(run.timelines.map((line) => line.metric));
    const listed = PANELS.flat();
    const others = [...seen].filter((metric) => !listed.includes(metric) && !["client.rss", "gpu.memory_total"].includes(metric)).map((metric) => [metric]);
    const panels = [...PANELS, ...others].map((panel) => panel.filter((metric) => seen.has(metric))).filter((panel) => panel.length > 0);
    const failed = brokenIn(run);
    const whole = failed.filter((one) => !one.broken);
    const stages = [...new Set(whole.map((one) => one.stage))].map((stage) => `${stage} (${whole.filter((one) => one.stage === stage).map((one) => one.id).join(", ")})`);
    const windowed = failed.filter((one) => one.windows.length > 0).map((one) => `${one.id} in ${one.stage} at ${joined(one.windows)}`);
    $("time-note").textContent = [
      stages.length ? `Stages in red failed: ${stages.join("; ")}.` : "Measured stages are shaded.",
      windowed.length ? `In red within a stage, an SLO did not hold: ${windowed.join("; ")}.` : "",
    ].join(" ").trim();
    const drawnNow = [...$("timelines").children];
    if (keep === true && drawnNow.map((element) => element.dataset.metrics).join() === panels.map((panel) => panel.join(" ")).join()) {
      drawnNow.forEach(update);
      return;
    }
    for (const element of drawnNow) {
      figures.get(element)?.chart?.dispose();
      figures.delete(element);
    }
    $("timelines").replaceChildren();
    for (const metrics of panels) {
      const element = document.createElement("figure");
      element.dataset.metrics = metrics.join(" ");
      const caption = element.appendChild(document.createElement("figcaption"));
      caption.textContent = metrics.map(named).join(", ").replace(/^./, (c) => c.toUpperCase());
      $("timelines").append(element);
      figure(element, () => timeline(metrics));
    }
  }

  // ---- slowest requests ----------------------------------------------------------------------------------------------

  const PHASES = [["held before sending", "#8a93a3"], ["to the first token", "#c2571a"], ["generating", "#2f6fdb"], ["to the end", "#7a6a00"]];
  function waterfall() {
    const stage = drawn.stages[Number($("slow-stage").value)];
    if (!stage || stage.slowest.length === 0) return null;
    const zero = Math.min(...stage.slowest.map((request) => request.intended_ms));
    const rows = stage.slowest.map((request) => {
      const stops = [request.intended_ms, request.dispatched_ms, request.first_token_ms ?? request.finished_ms, request.last_token_ms ?? request.first_token_ms ?? request.finished_ms, request.finished_ms];
      return { request, start: stops[0] - zero, parts: PHASES.map((_, at) => Math.max(0, stops[at + 1] - stops[at])) };
    }).reverse();
    const label = ({ request }) => `#${request.index}${request.repeat ? ` r${request.repeat + 1}` : ""}${request.outcome === "ok" ? "" : ` ${request.outcome}`}`;
    const part = (at, [name, fill]) => ({
      type: "bar", stack: "all", name, itemStyle: { color: fill }, barWidth: "60%",
      data: rows.map((row) => ({ value: row.parts[at], row })),
    });
    return {
      about: `The ${rows.length} slowest requests of ${stage.cell} ${stage.stage}.`,
      option: {
        grid: { left: 110, right: 20, top: 38, bottom: 46 },
        tooltip: { trigger: "item", formatter: ({ data, seriesName }) => [`${label(data.row)} · ${data.row.request.prompt}`, `${seriesName}: ${told(data.value, "ms")}`, `in all ${told(data.row.parts.reduce((a, b) => a + b), "ms")}`, `${digits(data.row.request.input_tokens)} tokens in, ${digits(data.row.request.output_tokens)} out`].map(escaped).join("<br>") },
        xAxis: { type: "value", name: "ms since the earliest of them was planned" },
        yAxis: { type: "category", data: rows.map(label) },
        series: [{ type: "bar", stack: "all", name: "before", silent: true, itemStyle: { color: "transparent" }, tooltip: { show: false }, data: rows.map((row) => row.start) }, ...PHASES.map((phase, at) => part(at, phase))],
        legend: { data: PHASES.map(([name]) => name) },
      },
      table: {
        head: ["request", "prompt", "outcome", ...PHASES.map(([name]) => name), "tokens in", "tokens out"],
        rows: [...rows].reverse().map((row) => [label(row), row.request.prompt, row.request.outcome, ...row.parts.map((ms) => told(ms, "ms")), digits(row.request.input_tokens), digits(row.request.output_tokens)]),
      },
    };
  }

  // ---- outcomes ------------------------------------------------------------------------------------------------------

  // Each outcome has its colour in every run: green is what was answered, grey what did not fail either, all else failed.
  const OUTCOMES = {
    ok: "#2e8b57", refused: "#b3201b", error_event: "#8e44ad", truncated: "#d9822b", empty: "#c9a400", malformed: "#b03060",
    connect_failed: "#7a1f1a", tls_failed: "#a0448f", reset: "#d1495b", timed_out: "#8a5a2b", dropped: "#5a3d8a", cut: "#8a93a3", unsent: "#c3c8d1",
  };
  const outcomeColour = (kind) => OUTCOMES[kind] ?? OUTCOMES[Object.keys(OUTCOMES).find((known) => kind.startsWith(known))] ?? FAILED;
  function outcomes() {
    const rows = shown().flatMap((cell) => cell.stages.filter((stage) => stage.measured && (stage.numbers || cell.ended)).map((stage) => {
      if (!stage.numbers) return { label: `${cell.short} ${stage.name}: no data`, counts: {} };
      const { ok, cut, dropped, unsent, outcomes: failed } = stage.numbers;
      return { label: `${cell.short} ${stage.name}`, counts: { ok, ...failed, cut, dropped, unsent } };
    })).reverse();
    const kinds = [...new Set(rows.flatMap((row) => Object.keys(row.counts)))].filter((kind) => rows.some((row) => row.counts[kind] > 0));
    if (kinds.length === 0) return null;
    return {
      about: `Requests of each stage by outcome: ${kinds.join(", ")}.`,
      option: {
        grid: { left: 150, right: 20, top: 38, bottom: 46 },
        tooltip: { trigger: "item", formatter: ({ name, seriesName, value }) => `${escaped(name)}<br>${escaped(seriesName)}: ${digits(value)}` },
        xAxis: { type: "value", name: "requests" },
        yAxis: { type: "category", data: rows.map((row) => row.label), axisLabel: { width: 140, overflow: "truncate" } },
        series: kinds.map((kind) => ({ type: "bar", stack: "all", name: kind, itemStyle: { color: outcomeColour(kind) }, data: rows.map((row) => row.counts[kind] ?? 0) })),
      },
      table: { head: ["stage", ...kinds], rows: [...rows].reverse().map((row) => [row.label, ...kinds.map((kind) => digits(row.counts[kind] ?? 0))]) },
    };
  }

  // ---- the page ------------------------------------------------------------------------------------------------------

  function chooseTheme() {
    const chosen = $("theme").value;
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
  }
  function theme() {
    chooseTheme();
    redrawAll();
  }

  // What can be chosen.
  function fill() {
    const has = (choice) => cells.some((cell) => measured(cell).some((stage) => statistic(stage, choice)));
    choices($("latency"), LATENCIES.filter(([choice]) => has(choice)));
    choices($("over"), OVER.filter(([choice]) => has(choice)));
    const metrics = [...new Set(drawn.stages.flatMap((stage) => stage.distributions.map((one) => one.metric)))];
    choices($("metric"), metrics.map((metric) => [metric, named(metric)]));
    choices($("stage"), stageNames.map((name) => [name, name]), stageNames.at(-1));
    choices($("run"), drawn.runs.map((run, at) => [String(at), byId.get(run.cell).short + (report.repeats > 1 ? ` · repeat ${run.repeat + 1}` : "")]), live ? String(drawn.runs.length - 1) : undefined);
    choices($("slow-stage"), drawn.stages.map((stage, at) => [String(at), `${byId.get(stage.cell).short} ${stage.stage}`]), String(drawn.stages.length - 1));
    cellBoxes();
  }

  let started = false;
  function start() {
    started = true;
    $("charts").hidden = false;
    fill();
    const on = (id, ...elements) => $(id).addEventListener("change", () => elements.forEach((element) => redraw($(element))));
    figure($("pareto"), pareto);
    figure($("level"), level);
    figure($("percentiles"), percentiles);
    on("latency", "pareto", "percentiles");
    on("over", "level");
    figure($("ecdf"), ecdf);
    figure($("histogram"), histogram);
    ["metric", "stage", "log"].forEach((id) => on(id, "ecdf", "histogram"));
    timelines();
    $("run").addEventListener("change", timelines);
    figure($("waterfall"), waterfall, true);
    on("slow-stage", "waterfall");
    figure($("ends"), outcomes, true);
  }

  function draw() {
    const some = drawn.runs.length > 0;
    for (const link of document.querySelectorAll("nav .drawn")) link.hidden = !some;
    if (!some) return;
    if (!started) return start();
    fill();
    timelines(true);
    for (const element of figures.keys()) if (!$("timelines").contains(element)) update(element);
  }

  if ($("slos")) {
    document.querySelector("#verdicts .controls").hidden = false;
    $("state").addEventListener("change", filterVerdicts);
    $("words").addEventListener("input", filterVerdicts);
    filterVerdicts();
  }
  draw();
  // The page of a run that goes on is brought up to date by live.js.
  const bringUpToDate = (text) => {
    read(text);
    if ($("slos")) filterVerdicts();
    draw();
  };
  if (live) globalThis.bringUpToDate = bringUpToDate;
  $("theme").addEventListener("change", theme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redrawAll());
  // Paper is white, has a width of its own, and no controls: what they were set to is written out.
  function chosen() {
    document.querySelectorAll(".chosen").forEach((old) => old.remove());
    for (const controls of document.querySelectorAll(".controls, #cells")) {
      const said = [...controls.querySelectorAll("label")].filter((label) => !label.hidden).flatMap((label) => {
        const control = label.querySelector("select, input");
        const name = [...label.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data.trim()).join(" ").trim();
        if (control.type === "checkbox") return control.checked ? [name] : [];
        const value = control.selectedOptions?.[0]?.text ?? control.value;
        return value ? [`${name}: ${value}`] : [];
      });
      const line = document.createElement("p");
      line.className = "chosen";
      line.textContent = (controls.id === "cells" ? "Cells in the charts: " : "") + said.join(" · ");
      if (said.length > 0 && !controls.hidden) controls.after(line);
    }
  }
  function toPaper() {
    if (onPaper) return;
    onPaper = true;
    document.documentElement.dataset.theme = "light";
    chosen();
    redrawAll(false);
  }
  function fromPaper() {
    onPaper = false;
    chooseTheme();
    redrawAll(false);
  }
  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", fromPaper);
  matchMedia("print").addEventListener("change", ({ matches }) => (matches ? toPaper() : fromPaper()));
})();
