// One episode, or two of a group side by side: facts, messages, turns.
"use strict";

const FOLDED = 1500; // characters of a prompt that are shown at once
const opened = { key: "", main: null, other: null, unfolded: false };

async function drawDetail() {
  const wanted = state.get();
  const box = at("detail");
  if (!box) return;
  if (!wanted.row) {
    box.replaceChildren(
      note(list.total ? "Choose an episode: a click, or j and k. ? shows all keys." : "No episode is like this. Widen the filters, or choose another step."),
    );
    opened.key = "";
    return;
  }
  const step = wanted.at || stepOf(wanted);
  const key = JSON.stringify([list.run, step, wanted.row, wanted.with]);
  if (key !== opened.key) {
    const load = (row) => (row ? ask("episode", { run: list.run, step, row }) : null);
    try {
      const [main, other] = await Promise.all([load(wanted.row), load(wanted.with)]);
      Object.assign(opened, { key, main, other });
    } catch (error) {
      opened.key = "";
      box.replaceChildren(note(error.message, "failed"));
      return;
    }
    if (JSON.stringify(state.get()) !== JSON.stringify(wanted)) return;
  }
  const colouring = COLOURINGS.includes(wanted.color) ? wanted.color : memory.get("color", "advantage");
  const both = [opened.main, opened.other].filter(Boolean);
  const scale = scaleOf(both.flatMap((each) => each.turns), colouring);
  box.replaceChildren(
    detailHead(opened.main, wanted, colouring, scale),
    el("div", { class: both.length > 1 ? "pair" : "" }, both.map((each, i) => episodeOf(each, i ? "other" : "main", colouring, scale, wanted))),
  );
  for (const row of document.querySelectorAll(".row")) {
    const shown = list.rows.get(Number(row.dataset.place));
    row.classList.toggle("current", Boolean(shown) && String(shown.row) === wanted.row && String(shown.step) === step);
  }
  const chosen = box.querySelector(".token.chosen");
  if (chosen) chosen.scrollIntoView({ block: "nearest" });
}

function detailHead(detail, wanted, colouring, scale) {
  const siblings = detail.siblings.map((each) =>
    el(
      "button",
      {
        class: `chip v-${each.verdict || "none"}${each.row === detail.row ? " current" : ""}${String(each.row) === wanted.with ? " beside" : ""}`,
        title: `episode ${each.episode}: ${each.verdict || "no verdict"}, reward ${number(each.reward)}, ${each.tokens} tokens; with shift beside this one`,
        onclick: (event) => state.set(event.shiftKey ? { with: each.row } : { row: each.row, with: "", turn: "", token: "" }),
      },
      number(each.reward, 2),
    ),
  );
  const buttons = COLOURINGS.map((name) =>
    el("button", { class: `segment${name === colouring ? " current" : ""}`, "data-color": name, onclick: () => setColour(name) }, name),
  );
  return el(
    "div",
    { class: "detail-head" },
    el("div", { class: "group" }, el("span", { class: "quiet", title: detail.group || "" }, `group ${detail.group_number} of step ${detail.step}`), siblings, detail.siblings.length > 1 ? el("button", { class: "small", title: "two episodes of the group (s)", onclick: toggleBeside }, wanted.with ? "one" : "side by side") : null, el("button", { class: "small right", onclick: copyLink }, "copy link")),
    el("div", { class: "colour" }, el("span", { class: "quiet" }, "tokens by"), el("span", { class: "segments" }, buttons), legend(colouring, scale, detail)),
  );
}

function setColour(name) {
  memory.set("color", name);
  state.set({ color: name }, { replace: true });
}

function nextColour() {
  const now = document.querySelector(".segment.current");
  const spot = COLOURINGS.indexOf(now ? now.dataset.color : "none");
  setColour(COLOURINGS[(spot + 1) % COLOURINGS.length]);
}

// Beside an episode stands the sibling that differs most from it in reward
function toggleBeside() {
  const wanted = state.get();
  if (wanted.with) return state.set({ with: "" });
  const { main } = opened;
  if (!main) return undefined;
  const others = main.siblings.filter((each) => each.row !== main.row);
  const apart = (each) => Math.abs((each.reward ?? 0) - (main.reward ?? 0));
  others.sort((a, b) => apart(b) - apart(a));
  return others.length ? state.set({ with: others[0].row }) : undefined;
}

function moveSibling(by) {
  const { main } = opened;
  if (!main) return;
  const spot = main.siblings.findIndex((each) => each.row === main.row);
  const next = main.siblings[spot + by];
  if (next) state.set({ row: next.row, with: "", turn: "", token: "" });
}

async function copyLink(event) {
  const button = event.target;
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "copied";
  } catch {
    button.textContent = "copy it from the address bar";
  }
}

function episodeOf(detail, side, colouring, scale, wanted) {
  const chosen = side === (wanted.side || "main") && wanted.token !== undefined ? [Number(wanted.turn), Number(wanted.token)] : [null, null];
  const shown = detail.shown === undefined ? detail.prompt : detail.shown;
  const notes = [detail.missing.tokens, detail.missing.tokenizer].filter(Boolean).map((text) => note(text, "missing"));
  return el(
    "article",
    { class: "episode", "data-side": side },
    el("div", { class: "title" }, verdictBadge(detail.verdict), el("b", {}, detail.problem), el("span", { class: "quiet" }, ` episode ${detail.episode}`)),
    factsOf(detail),
    notes,
    (shown || []).map((message) => messageOf(message, side)),
    detail.turns.map((turn, place) => turnOf(turn, place, detail, { colouring, scale, chosen: chosen[0] === place ? chosen[1] : null, side })),
  );
}

function factsOf(detail) {
  const parts = Object.entries(detail.parts || {});
  const environment = detail.environment || {};
  const rows = [
    ["reward", el("b", {}, number(detail.reward)), detail.value !== undefined && detail.value !== detail.reward ? ` of which the score ${number(detail.value)}` : ""],
    ["advantage", number(detail.advantage), " of its tokens, the one farthest from 0"],
    ["length", `${detail.tokens} tokens`, detail.truncated ? " cut off by a limit" : ""],
    ["end", detail.status, detail.status_reason ? ` ${detail.status_reason}` : ""],
    detail.reason ? ["reason", detail.reason] : null,
    detail.answer !== undefined && detail.answer !== null ? ["answer read", el("code", {}, detail.answer)] : null,
    detail.reference ? ["reference", el("code", {}, detail.reference)] : null,
    parts.length ? ["parts", parts.map(([name, value]) => el("span", { class: "part" }, `${name} `, el("b", {}, number(value))))] : null,
    environment.verdict || Object.keys(environment.metrics || {}).length ? ["environment", environment.verdict ? `${environment.verdict}  ` : "", Object.entries(environment.metrics || {}).map(([name, value]) => el("span", { class: "part" }, `${name} `, el("b", {}, number(value))))] : null,
    detail.audit ? ["second reward", `${number(detail.audit.value)} `, detail.audit.verdict ? verdictBadge(detail.audit.verdict) : "", ` ${detail.audit.reason || ""}`] : null,
    detail.steps ? ["reward of steps", detail.steps.map((value) => number(value)).join("  ")] : null,
    (detail.tools || []).length ? ["tools", detail.tools.map((tool) => (tool.function || tool).name || "?").join(", ")] : null,
  ];
  return el("dl", { class: "facts" }, rows.filter(Boolean).map(([name, ...cells]) => [el("dt", {}, name), el("dd", {}, cells)]));
}

const PICTURE = /^data:image\/(png|jpeg|webp|gif);base64,/;

function messageOf(message, side, folds = true) {
  const role = message.role || "message";
  const box = el("div", { class: `message m-${["system", "user", "assistant", "tool"].includes(role) ? role : "other"}` }, el("div", { class: "role" }, role));
  const parts = Array.isArray(message.content) ? message.content : [message.content];
  for (const part of parts) {
    const text = typeof part === "string" ? part : part && typeof part.text === "string" ? part.text : "";
    if (text) box.append(foldable(text, folds));
    const url = part && part.image_url && part.image_url.url;
    if (typeof url === "string" && PICTURE.test(url)) box.append(el("img", { src: url, alt: "picture in the message" }));
  }
  for (const image of Array.isArray(message.images) ? message.images : []) {
    const shown = typeof image === "string" && PICTURE.test(image);
    box.append(shown ? el("img", { src: image, alt: "picture in the message" }) : note(`picture: ${image}`, "missing"));
  }
  if (typeof message.picture === "string" && !window.EXPORTED) {
    const path = message.picture.split("/").slice(-2).join("/"); // in the run's folder, wherever that lies now
    const source = `file?${new URLSearchParams({ run: list.run, path })}`;
    box.append(el("img", { src: source, alt: `the page, ${message.picture}`, class: "screen", onerror: (event) => event.target.replaceWith(note(`${message.picture} is not in the run's folder.`, "missing")) }));
  }
  const calls = message.tool_calls || [];
  if (calls.length) box.append(el("pre", {}, JSON.stringify(calls, null, 1)));
  return box;
}

function foldable(text, folds) {
  const pre = el("pre", {});
  if (!folds || text.length <= FOLDED) return fill(pre, {}, [text]);
  const half = FOLDED / 2;
  const more = el("button", { class: "small", onclick: () => pre.replaceChildren(text) }, `… ${(text.length - FOLDED).toLocaleString("en")} characters more …`);
  return fill(pre, {}, [text.slice(0, half), "\n", more, "\n", text.slice(-half)]);
}

function turnOf(turn, place, detail, { colouring, scale, chosen, side }) {
  const who = [turn.agent, turn.model && turn.model !== "policy" ? turn.model : ""].filter(Boolean).join(" · ") || "policy";
  const several = detail.turns.length > 1;
  const head = el(
    "div",
    { class: "role" },
    several ? `turn ${place} · ${who}` : who,
    el("span", { class: "quiet" }, ` ${turn.tokens ? `${turn.tokens.ids.length} tokens · ` : ""}${turn.finish} · weights ${turn.version}${turn.reward ? ` · reward ${number(turn.reward)}` : ""}`),
  );
  const body = turn.tokens ? tokensOf(turn, place, colouring, scale, chosen) : el("pre", {}, turn.text);
  const begun = turn.opened ? el("pre", { class: "opened", title: "what the prompt began of the answer" }, turn.opened) : null;
  const anew = turn.whole ? note("The environment wrote the history anew: this is the whole next prompt.", "missing") : null;
  return [
    el("div", { class: "message m-policy", "data-turn": place }, head, begun, body),
    anew,
    (turn.reply || []).map((message) => messageOf(message, side)),
  ];
}
