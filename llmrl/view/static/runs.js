// The list of runs at the side, and their curves beside one another.
"use strict";

const known = { runs: [], metrics: [], about: {}, version: "" };
const curves = { zoom: null, drawn: "", stamp: "" };

const chosenRuns = () => {
  const given = state.get().runs;
  const names = known.runs.filter((run) => run.steps).map((run) => run.name);
  return given ? given.split("\n").filter((name) => names.includes(name)) : names.slice(0, 12);
};
const currentRun = () => {
  const given = state.get().run;
  if (given) return given;
  const first = known.runs.find((run) => run.episodes) || known.runs[0];
  return first ? first.name : "";
};
const isUsual = (name) =>
  ["reward", "accuracy", "completions/mean_length", "entropy", "grad_norm", "sync/probe_logp_gap"].includes(name) ||
  (name.startsWith("eval/") && name.includes("/avg@"));

const banded = () => state.get().bands !== "0";
const groupOf = (name) => (known.runs.find((run) => run.name === name) || { group: name }).group;

// Seeds of one recipe have one colour where they are drawn as one band
function runColour(name, chosen) {
  if (!banded()) return colourOf(chosen, name);
  return colourOf([...new Set(chosen.map(groupOf))], groupOf(name));
}

function isLive(run) {
  return run.status === "running" && Date.now() / 1000 - run.changed < 600;
}

function drawSide() {
  const names = known.runs.map((run) => run.name);
  const chosen = chosenRuns();
  const items = known.runs.map((run) => {
    const dot = dotOf(chosen.includes(run.name) ? runColour(run.name, chosen) : "transparent", isLive(run) ? " live" : "");
    const toggle = () => {
      const next = chosen.includes(run.name) ? chosen.filter((name) => name !== run.name) : [...chosen, run.name];
      state.set({ runs: names.filter((name) => next.includes(name)).join("\n") || "\n" });
    };
    const box = el("input", { type: "checkbox", checked: chosen.includes(run.name), onchange: toggle, title: "draw its curves" });
    const of = run.max_steps ? ` of ${run.max_steps}` : "";
    const state_ = isLive(run) ? "running" : run.status === "running" ? "silent" : run.status;
    return el(
      "li",
      { class: run.name === currentRun() && state.get().view !== "curves" ? "current" : "" },
      box,
      dot,
      el(
        "button",
        {
          class: "link",
          title: run.name,
          onclick: () => state.set({ run: run.name, view: state.get().view === "curves" || !state.get().view ? "episodes" : state.get().view, step: "", row: "", with: "", turn: "", token: "" }),
        },
        el("span", { class: "name" }, run.name),
        el("span", { class: "quiet" }, run.steps ? `${run.steps}${of} steps` : "no steps", state_ ? ` · ${state_}` : ""),
      ),
    );
  });
  const all = el("button", { class: "small", onclick: () => state.set({ runs: names.join("\n") }) }, "all");
  const none = el("button", { class: "small", onclick: () => state.set({ runs: "\n" }) }, "none");
  at("side").replaceChildren(
    el("div", { class: "side-head" }, el("h2", {}, `Runs (${known.runs.length})`), all, none),
    el("ul", { class: "runs" }, items),
  );
}

// Curves

async function drawCurves(main, isNew) {
  const wanted = state.get();
  const chosen = chosenRuns();
  const filter = (wanted.metrics || "").toLowerCase();
  const words = filter.split(/\s+/).filter(Boolean);
  const metrics = known.metrics.filter((name) => (words.length ? words.some((word) => name.toLowerCase().includes(word)) : isUsual(name)));
  const weight = Number(wanted.smooth || 0);
  const bands = banded();
  const stamp = JSON.stringify([chosen, metrics.slice(0, 40), weight, bands, curves.zoom, known.runs.map((run) => run.changed), innerWidth]);
  if (!isNew && stamp === curves.stamp) return;
  curves.stamp = stamp;
  const [found, differing] = await Promise.all([
    ask("curves", { metrics: metrics.slice(0, 40).join("\n"), runs: chosen.join("\n") }),
    ask("differences", { runs: chosen.join("\n") }),
  ]);
  if (curves.stamp !== stamp) return;
  if (!at("charts")) {
    main.replaceChildren(curveTools(wanted), el("p", { id: "key", class: "key" }), el("div", { id: "charts", class: "charts" }), el("div", { id: "below" }));
  }
  const groups = [...new Set(bands ? chosen.map(groupOf) : chosen)];
  at("key").replaceChildren(...groups.map((name) => {
    const members = bands ? chosen.filter((each) => groupOf(each) === name) : [name];
    return el("span", {}, dotOf(runColour(members[0], chosen)), ` ${members.length > 1 ? `${name}, ${members.length} seeds: mean and range` : members[0]}`);
  }));
  const order = (name) => (name.startsWith("eval/") ? 0 : ["reward", "accuracy"].includes(name) ? 1 : 2);
  const drawn = [...metrics].slice(0, 40).sort((a, b) => order(a) - order(b)).map((name) =>
    chart(name, seriesOf(name, found, chosen, weight, bands), {
      zoom: curves.zoom,
      zoomed: (range) => {
        curves.zoom = range;
        show();
      },
      opened: (run, step) => state.set({ view: "episodes", run, step, row: "", with: "", turn: "", token: "" }),
    }),
  );
  at("charts").replaceChildren(...(drawn.length ? drawn : [note(chosen.length ? "No metric has such a name." : "Choose runs at the side.")]));
  for (const each of drawn) each.draw();
  drawBelow(differing, chosen, metrics.length);
}

function curveTools(wanted) {
  const slider = el("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: wanted.smooth || 0, id: "smooth", oninput: debounced((event) => state.set({ smooth: Number(event.target.value) || "" }, { replace: true }), 60) });
  const seeds = el("input", { type: "checkbox", id: "bands", checked: banded(), onchange: (event) => state.set({ bands: event.target.checked ? "" : "0" }, { replace: true }) });
  return el(
    "div",
    { class: "tools" },
    field("metrics", wanted.metrics, (text) => state.set({ metrics: text }, { replace: true }), { id: "search", placeholder: "entropy kl, or any part of a name" }),
    el("label", { class: "field" }, "smoothing", slider),
    el("label", { class: "field check" }, seeds, "seeds as bands"),
    el("span", { class: "quiet" }, "drag to zoom, double click to go back, click to open a step"),
  );
}

function seriesOf(metric, found, chosen, weight, bands) {
  const groups = new Map();
  for (const name of chosen) {
    const points = (found[name] || {})[metric];
    const run = known.runs.find((each) => each.name === name);
    if (!points || !run) continue;
    const key = bands ? run.group : name;
    groups.set(key, [...(groups.get(key) || []), { name, points }]);
  }
  return [...groups].map(([key, members]) => {
    const colour = runColour(members[0].name, chosen);
    if (members.length === 1) {
      const [{ name, points }] = members;
      return { name, colour, points: smoothed(points, weight), raw: weight ? points : null, opens: name };
    }
    const range = band(members.map((member) => smoothed(member.points, weight)));
    const points = range.map((each) => [each.step, each.mean]);
    return { name: `${key} (${members.length} seeds)`, colour, points, band: range, opens: members[0].name };
  });
}

// The differing keys; runs that are seeds of one recipe share a column
function grouped(differing) {
  const groups = [...new Set(differing.runs.map((run) => (banded() ? groupOf(run) : run)))];
  const shown = (values) => [...new Set(values.map((value) => (value === null ? "–" : value)))].join(", ");
  const rows = differing.rows
    .filter((row) => !["train.output_dir", "train.run_name"].includes(row.key))
    .map((row) => ({ key: row.key, values: groups.map((group) => shown(row.values.filter((_, i) => (banded() ? groupOf(differing.runs[i]) : differing.runs[i]) === group))) }));
  const differs = (row) => new Set(row.values).size > 1;
  return [groups, rows.filter(differs)];
}

function drawBelow(differing, chosen, count) {
  const parts = [];
  if (count > 40) parts.push(note(`${count} metrics have such a name; the first 40 are drawn.`));
  if (chosen.length > 1) {
    parts.push(el("h3", {}, "Recipes: what differs"));
    const [heads, rows] = grouped(differing);
    parts.push(
      rows.length
        ? table(["key", ...heads], rows.map((row) => [el("code", {}, row.key), ...row.values]))
        : note("The recipes of these runs are the same, but for names and seeds."),
    );
  }
  const names = [...new Set(known.runs.flatMap((run) => Object.keys(run.last)))];
  const shown = known.runs.filter((run) => chosen.includes(run.name));
  if (shown.length) {
    parts.push(el("h3", {}, "Last values"));
    parts.push(table(["run", ...names], shown.map((run) => [run.name, ...names.map((name) => number(run.last[name]))])));
  }
  at("below").replaceChildren(...parts);
}
