const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const D = JSON.parse(find("#data").textContent);
const STEP = 20; // pixels a line of a chart of methods
const dark = matchMedia("(prefers-color-scheme: dark)");
const CONFIG = {
  font: getComputedStyle(document.body).fontFamily,
  background: null,
  view: { stroke: null },
  axis: {
    labelColor: "currentColor", titleColor: "currentColor", domainColor: "#888", tickColor: "#888",
    gridColor: "#8884", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 150, labelSeparation: 8, labelOverlap: "greedy",
  },
  mark: { color: "#0072b2" },
  rule: { color: "#0072b2" },
  range: { category: D.colours },
};

// One scale of colours and one of shapes for all methods, so that a method looks the same in every chart.
function styled(part) {
  if (Array.isArray(part)) return part.map(styled);
  if (part === null || typeof part !== "object") return part;
  const made = Object.fromEntries(Object.entries(part).map(([key, value]) => [key, styled(value)]));
  for (const [channel, name] of [["color", "colour"], ["shape", "shape"]]) {
    if (made[channel]?.field === "method") {
      made[channel].scale = { domain: D.styles.map((one) => one.name), range: D.styles.map((one) => one[name]) };
    }
  }
  return made;
}

function draw(element, name, values, words, title) {
  const spec = styled(D.specs[name]);
  if (title) spec.encoding.x.title = title;
  if (spec.params) spec.params[0].value = against.value;
  spec.height ??= STEP * new Set(values.map((one) => one[spec.encoding.y.field] ?? one.first)).size;
  const made = {
    ...spec, width: "container",
    data: { name: "rows", values }, description: words, config: CONFIG,
  };
  element.made = vegaEmbed(element, made, {
    mode: "vega-lite", renderer: "svg", actions: false, tooltip: { theme: dark.matches ? "dark" : "light" },
  }).then((result) => result.view);
  return element.made;
}

// Charts are drawn when they come near the window.
const against = find("#against");
function drawPlanned(element) {
  if (element.made || !(element.id in D.charts)) return;
  const { spec, rows, words } = D.charts[element.id];
  const kind = element.closest("figure").dataset.kind;
  draw(element, spec, rows, words, kind && D.costs[kind]);
}
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      watcher.unobserve(entry.target);
      drawPlanned(entry.target);
    }
  }
}, { rootMargin: "400px" });
all(".chart").forEach((element) => watcher.observe(element));
addEventListener("beforeprint", () => all(".chart").filter((one) => one.offsetParent).forEach(drawPlanned));

against?.addEventListener("change", () => {
  for (const element of all("[id^=differences-]")) {
    element.made?.then((view) => view.signal("against", against.value).runAsync());
  }
});

const cost = find("#cost");
function chooseCost() {
  all("figure[data-kind]").forEach((one) => { one.hidden = one.dataset.kind !== cost.value; });
}
cost?.addEventListener("change", chooseCost);
if (cost) chooseCost();

// Sorting: empty values are last in both directions.
function compare(a, b, sign) {
  const empty = (value) => value === "" || value === null || value === undefined;
  if (empty(a) || empty(b)) return empty(a) - empty(b);
  const difference = typeof a === "number" || (a !== "" && !isNaN(a) && !isNaN(b)) ? a - b : String(a).localeCompare(b);
  return sign * difference;
}
function direction(header) {
  const next = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  all("th", header.parentElement).forEach((one) => one.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", next);
  return next === "ascending" ? 1 : -1;
}

// The table of results.
const results = find("#results"), body = find("tbody", results);
all("thead button", results).forEach((button, column) => button.addEventListener("click", () => {
  const sign = direction(button.parentElement);
  const rows = all("tr", body).sort((a, b) =>
    compare(a.children[column].dataset.value, b.children[column].dataset.value, sign));
  body.append(...rows);
}));
function filterResults() {
  const text = find("#method-filter").value.trim().toLowerCase();
  let shown = 0;
  for (const row of all("tr", body)) {
    row.hidden = !row.children[0].textContent.toLowerCase().includes(text);
    shown += !row.hidden;
  }
  for (const box of all("#table-controls [data-column]")) {
    for (const row of all("tr", results)) row.children[box.dataset.column].hidden = !box.checked;
  }
  find("#shown").textContent = text ? `${shown} of ${body.children.length} methods` : "";
}
for (const form of all("form")) form.addEventListener("submit", (event) => event.preventDefault());
find("#table-controls").addEventListener("input", filterResults);

// The list of trials, and the curves of those that are chosen.
const MORE = 50, MOST = 12; // lines of the list, curves at a time
let limit = MORE, sorted = D.trials.map((one, i) => ({ ...one, i })), chosen = [];
const table = find("#trial-table");
const label = (one) => `${one.task} ${one.method} ${one.hparams} seed=${one.seed}`.replace(/ +/g, " ");
function short(value) {
  const step = Math.max(0, Math.floor(Math.log10(value) / 3));
  return `${Number((value / 1000 ** step).toPrecision(3))} ${" kMGTPE"[step].trim()}`;
}
function cell(row, text, title) {
  const made = row.insertCell();
  made.textContent = text;
  if (title) made.title = title;
}
function list() {
  const words = find("#trial-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const status = find("#trial-status").value;
  const matching = sorted.filter((one) => (!status || one.status === status)
    && words.every((word) => label(one).toLowerCase().includes(word)));
  const rows = find("tbody", table);
  rows.replaceChildren();
  for (const one of matching.slice(0, limit)) {
    const row = rows.insertRow(), button = document.createElement("button"), on = chosen.includes(one.i);
    button.type = "button";
    button.textContent = on ? "hide" : "show";
    button.disabled = !one.epochs.length;
    button.setAttribute("aria-pressed", on);
    button.setAttribute("aria-label", `curves of ${label(one)}`);
    button.dataset.trial = one.i;
    row.insertCell().append(button);
    for (const key of ["task", "method", "hparams", "seed"]) cell(row, one[key]);
    cell(row, one.status, one.reason);
    for (const key of ["val", "test"]) cell(row, one[key] === null ? "-" : one[key].toFixed(1));
    cell(row, one.flops ? short(one.flops) : "-");
    cell(row, one.seconds === null ? "-" : one.seconds.toFixed(1));
  }
  find("#trials-shown").textContent =
    `${Math.min(limit, matching.length)} of ${matching.length} trials shown, ${chosen.length} with curves`;
  find("#more").hidden = matching.length <= limit;
  find("#none").hidden = !chosen.length;
}
async function drawCurves() {
  find("#curves").hidden = !chosen.length;
  if (!chosen.length) return;
  const losses = [], progress = [], domain = chosen.map((i) => label(D.trials[i]));
  for (const i of chosen) {
    const trial = label(D.trials[i]);
    for (const [epoch, train, val, accuracy] of D.trials[i].epochs) {
      losses.push({ trial, epoch, of: "training", value: train }, { trial, epoch, of: "validation", value: val });
      progress.push({ trial, epoch, value: accuracy });
    }
  }
  const colours = domain.map((_, n) => D.colours[n % D.colours.length]);
  find("#curve-legend").replaceChildren(...domain.map((text, n) => {
    const item = document.createElement("li"), mark = document.createElement("span");
    mark.textContent = "━ ";
    mark.style.color = colours[n];
    item.append(mark, text);
    return item;
  }));
  for (const [name, values] of [["losses", losses.filter((one) => one.value !== null)], ["progress", progress]]) {
    D.specs[name].encoding.color.scale = { domain, range: colours };
    await draw(find(`#${name}`), name, values, `Curves of ${domain.join(", ")}`);
  }
}
if (table) {
  for (const status of new Set(D.trials.map((one) => one.status))) find("#trial-status").add(new Option(status));
  for (const kind of ["input", "change"]) {
    find("#trial-controls").addEventListener(kind, () => { limit = MORE; list(); });
  }
  find("#more").addEventListener("click", () => { limit += MORE; list(); });
  find("#none").addEventListener("click", () => { chosen = []; list(); drawCurves(); });
  all("thead button", table).forEach((button) => button.addEventListener("click", () => {
    const sign = direction(button.parentElement), key = button.dataset.key;
    sorted.sort((a, b) => compare(a[key], b[key], sign));
    list();
  }));
  find("tbody", table).addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const i = Number(button.dataset.trial);
    chosen = chosen.includes(i) ? chosen.filter((other) => other !== i) : [...chosen, i].slice(-MOST);
    list();
    find(`[data-trial="${i}"]`, table)?.focus();
    drawCurves();
  });
  list();
}
