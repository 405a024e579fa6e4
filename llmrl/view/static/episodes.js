// The episodes of a step, or of all: filters, an order, and a list of any length of which only what is seen is drawn.
"use strict";

const ROW_PX = 58;
const CHUNK = 100;
const MOST_PX = 15e6; // browsers draw nothing beyond
const VERDICTS = ["correct", "wrong", "unparsable", "truncated", "timeout", "error", "none"];
const FILTERS = ["verdict", "truncated", "least_tokens", "most_tokens", "least_reward", "most_reward", "text"];

const list = { key: "", total: 0, rows: new Map(), asked: new Set(), steps: [], run: "", searched: 1, progress: 1, changed: 0 };

const filterQuery = (wanted) => {
  const query = { run: currentRun(), step: wanted.step === "all" ? "" : wanted.step, order: wanted.order, descending: wanted.descending };
  for (const name of FILTERS) query[name] = wanted[name];
  return query;
};
const stepOf = (wanted) => wanted.step || (list.steps.length ? String(list.steps[list.steps.length - 1].step) : "");

async function drawEpisodes(main) {
  const run = currentRun();
  const about = known.runs.find((each) => each.name === run);
  if (!about || !about.episodes) {
    main.replaceChildren(note(about ? `${run} has no rollouts.jsonl, or none yet.` : "There is no run of this name."));
    return;
  }
  if (list.run !== run || list.changed !== about.changed || list.progress < 1) {
    const found = await ask("steps", { run });
    Object.assign(list, { run, steps: found.steps, progress: found.progress, changed: about.changed });
  }
  const wanted = { ...state.get(), step: stepOf(state.get()) };
  if (!at("list")) {
    main.replaceChildren(
      el("div", { id: "filters", class: "tools" }),
      el("p", { id: "count", class: "quiet", "aria-live": "polite" }),
      el("div", { id: "replays" }),
      el("div", { class: "split" }, el("div", { id: "list", class: "list", tabindex: 0, onscroll: drawRows }, el("div", { id: "space" })), el("div", { id: "detail" })),
    );
  }
  drawFilters(wanted);
  const key = JSON.stringify([filterQuery(wanted), wanted.step]);
  if (key !== list.key) {
    Object.assign(list, { key, total: 0, searched: 1 });
    list.rows.clear();
    at("list").scrollTop = 0;
  }
  list.asked.clear();
  await loadRows(0);
  await search();
  await drawReplays(run, wanted.step, about.changed);
  await drawDetail();
}

async function loadRows(chunk) {
  if (list.asked.has(chunk)) return;
  list.asked.add(chunk);
  const key = list.key;
  const wanted = { ...state.get(), step: stepOf(state.get()) };
  const found = await ask("episodes", { ...filterQuery(wanted), offset: chunk * CHUNK, limit: CHUNK });
  if (key !== list.key) return;
  if (found.total < list.total) list.rows.clear();
  Object.assign(list, { total: found.total, searched: found.searched, progress: found.progress });
  found.rows.forEach((row, i) => list.rows.set(found.offset + i, row));
  const height = Math.min(MOST_PX, list.total * ROW_PX);
  at("space").style.height = `${height}px`;
  drawCount();
  drawRows();
}

// Words are searched for a second at a time; go on until all is read or something else is asked
async function search() {
  const key = list.key;
  while (list.searched < 1 && key === list.key) {
    list.asked.clear();
    await loadRows(0);
  }
}

function drawCount() {
  const parts = [`${list.total.toLocaleString("en")} episode${list.total === 1 ? "" : "s"}`];
  if (list.searched < 1) parts.push(`searched ${(100 * list.searched).toFixed(0)} %`);
  if (list.progress < 1) parts.push(`the file is being indexed, ${(100 * list.progress).toFixed(0)} %: the last steps are here already`);
  if (list.total * ROW_PX > MOST_PX) parts.push(`the first ${Math.floor(MOST_PX / ROW_PX).toLocaleString("en")} can be scrolled to; filter for others`);
  at("count").textContent = parts.join(" · ");
}

function drawRows() {
  const box = at("list");
  const first = Math.max(0, Math.floor(box.scrollTop / ROW_PX) - 5);
  const last = Math.min(list.total, first + Math.ceil(box.clientHeight / ROW_PX) + 12);
  for (let chunk = Math.floor(first / CHUNK); chunk <= Math.floor(Math.max(first, last - 1) / CHUNK); chunk++) {
    if (list.total && !list.rows.has(chunk * CHUNK)) loadRows(chunk).catch(failed);
  }
  const drawn = [];
  for (let i = first; i < last; i++) drawn.push(rowOf(i, list.rows.get(i)));
  at("space").replaceChildren(...drawn);
}

function rowOf(place, row) {
  const wanted = state.get();
  const box = el("div", { class: "row", role: "button", "data-place": place });
  box.style.top = `${place * ROW_PX}px`;
  if (!row) return fill(box, {}, [el("span", { class: "quiet" }, "…")]);
  if (String(row.step) === stepOf({ ...wanted, step: wanted.at || stepOf(wanted) }) && String(row.row) === wanted.row) box.classList.add("current");
  if (row.group % 2) box.classList.add("odd");
  box.addEventListener("click", () => openRow(row));
  const step = wanted.step === "all" ? `step ${row.step} · ` : "";
  return fill(box, {}, [
    el(
      "div",
      { class: "row-head" },
      verdictBadge(row.verdict),
      el("b", { title: "reward" }, number(row.reward)),
      el("span", { class: "quiet", title: "tokens that the policy chose" }, `${row.tokens} tokens${row.truncated ? ", cut" : ""}`),
      el("span", { class: row.advantage > 0 ? "up" : row.advantage < 0 ? "down" : "quiet", title: "advantage" }, `${row.advantage > 0 ? "+" : ""}${number(row.advantage, 2)}`),
      el("span", { class: "quiet right", title: row.problem }, `${step}#${row.episode}`),
    ),
    el("div", { class: "preview" }, el("b", {}, row.problem.split("/").pop()), ` ${row.text || row.reason || "(nothing said)"}`),
  ]);
}

function openRow(row) {
  state.set({ at: state.get().step === "all" ? row.step : "", step: state.get().step === "all" ? "all" : row.step, row: row.row, turn: "", token: "", with: "" });
}

function drawFilters(wanted) {
  const box = at("filters");
  const stamp = JSON.stringify([list.run, list.steps.length, wanted.step]);
  if (box.dataset.stamp === stamp) return; // what is being typed stays
  box.dataset.stamp = stamp;
  const change = (changes) => state.set({ ...changes, row: changes.step === undefined ? state.get().row : "", with: "", turn: "", token: "" }, { replace: true });
  const steps = list.steps.map((each) => [String(each.step), `${each.step}   (${each.episodes}, ${number(each.reward, 2)})`]);
  const orders = [["file", "as played"], ["reward", "reward"], ["tokens", "length"], ["advantage", "advantage"], ["verdict", "verdict"]];
  const spot = list.steps.findIndex((each) => String(each.step) === wanted.step);
  const move = (by) => moveStep(by);
  const digits = { inputmode: "decimal", size: 5 };
  box.replaceChildren(
    el("span", { class: "field" }, el("button", { class: "small", onclick: () => move(-1), disabled: spot <= 0, title: "step before (h)" }, "‹"), choice("step", [...steps.reverse(), ["all", "all steps"]], wanted.step, (step) => change({ step })), el("button", { class: "small", onclick: () => move(1), disabled: spot < 0 || spot >= list.steps.length - 1, title: "next step (l)" }, "›")),
    choice("verdict", [["", "any"], ...VERDICTS.map((name) => [name, name])], wanted.verdict || "", (verdict) => change({ verdict })),
    choice("length", [["", "any"], ["1", "cut off"], ["0", "whole"]], wanted.truncated || "", (truncated) => change({ truncated })),
    el("span", { class: "field range" }, field("tokens from", wanted.least_tokens, (text) => change({ least_tokens: text }), { ...digits, id: "least_tokens" }), field("to", wanted.most_tokens, (text) => change({ most_tokens: text }), { ...digits, id: "most_tokens" })),
    el("span", { class: "field range" }, field("reward from", wanted.least_reward, (text) => change({ least_reward: text }), { ...digits, id: "least_reward" }), field("to", wanted.most_reward, (text) => change({ most_reward: text }), { ...digits, id: "most_reward" })),
    field("words", wanted.text, (text) => change({ text }), { id: "search", type: "search", placeholder: "in prompts, answers, reasons ( / )" }),
    choice("order", orders, wanted.order || "file", (order) => change({ order })),
    el("label", { class: "field check" }, el("input", { type: "checkbox", id: "descending", checked: wanted.descending === "1", onchange: (event) => change({ descending: event.target.checked ? "1" : "" }) }), "downwards"),
    el("button", { class: "small", id: "clear", onclick: () => { delete box.dataset.stamp; state.set(Object.fromEntries([...FILTERS, "order", "descending"].map((name) => [name, ""])), { replace: true }); } }, "clear"),
  );
}

function moveStep(by) {
  const spot = list.steps.findIndex((each) => String(each.step) === stepOf(state.get()));
  const next = list.steps[spot + by];
  if (next) state.set({ step: next.step, row: "", with: "", turn: "", token: "" });
}

async function moveRow(by) {
  const wanted = state.get();
  let place = [...list.rows].find(([, row]) => String(row.row) === wanted.row && String(row.step) === (wanted.at || stepOf(wanted)));
  place = place ? place[0] + by : 0;
  if (place < 0 || place >= list.total) return;
  if (!list.rows.has(place)) await loadRows(Math.floor(place / CHUNK));
  const row = list.rows.get(place);
  if (!row) return;
  const box = at("list");
  if (place * ROW_PX < box.scrollTop) box.scrollTop = place * ROW_PX;
  if ((place + 1) * ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = (place + 1) * ROW_PX - box.clientHeight;
  openRow(row);
}
