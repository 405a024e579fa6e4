// The tokens of a turn, each with a background by one of its numbers, a link of its own and its numbers in a tip.
"use strict";

const COLOURINGS = ["none", "advantage", "gap", "entropy", "reward", "surprise"];
const SIGNED = new Set(["advantage", "gap", "reward"]);
const FIRST_TOKENS = 6000; // of a turn; the rest on demand
const POSITIVE = "0, 114, 178";
const NEGATIVE = "213, 94, 0";
const AMOUNT = "150, 90, 200";

// The size that is fully coloured: the 98th percentile, so that one token does not pale all others
function scaleOf(turns, colouring) {
  const sizes = turns.flatMap((turn) => ((turn.tokens || { columns: {} }).columns[colouring] || []).filter((each) => typeof each === "number").map(Math.abs));
  if (!sizes.length) return 0;
  sizes.sort((a, b) => a - b);
  return sizes[Math.floor((sizes.length - 1) * 0.98)] || sizes[sizes.length - 1];
}

function background(value, colouring, scale) {
  if (typeof value !== "number" || !scale) return "";
  const strength = Math.min(1, Math.abs(value) / scale);
  if (strength < 0.02) return "";
  const colour = !SIGNED.has(colouring) ? AMOUNT : value > 0 ? POSITIVE : NEGATIVE;
  return `rgba(${colour}, ${(0.06 + 0.6 * strength).toFixed(3)})`;
}

function legend(colouring, scale, detail) {
  if (colouring === "none") return el("span", { class: "quiet" }, "a click on a token gives a link to it");
  if (detail.missing[colouring]) return el("span", { class: "missing" }, detail.missing[colouring]);
  if (detail.missing.tokens) return el("span", { class: "missing" }, detail.missing.tokens);
  const bar = el("span", { class: "legend" });
  const ends = SIGNED.has(colouring)
    ? [`rgba(${NEGATIVE}, 0.66)`, "transparent", `rgba(${POSITIVE}, 0.66)`]
    : ["transparent", `rgba(${AMOUNT}, 0.66)`];
  bar.style.background = `linear-gradient(to right, ${ends.join(", ")})`;
  const least = SIGNED.has(colouring) ? number(-scale) : "0";
  return el("span", { class: "quiet" }, least, " ", bar, ` ${number(scale)}  ${known.about[colouring] || ""}`);
}

const visible = (piece) => piece.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣");

function tokensOf(turn, place, colouring, scale, chosen) {
  const { pieces, ids, columns } = turn.tokens;
  const numbers = columns[colouring] || [];
  const box = el("div", { class: "tokens", "data-turn": place });
  const last = Math.max(FIRST_TOKENS, chosen === null ? 0 : chosen + 500);
  const draw = (first, end) => {
    for (let i = first; i < Math.min(end, pieces.length); i++) {
      const token = el("span", { class: "token", "data-token": i }, pieces[i]);
      const colour = background(numbers[i], colouring, scale);
      if (colour) token.style.backgroundColor = colour;
      if (/^<[|｜].*[|｜]>$/.test(pieces[i])) token.classList.add("special");
      if (i === chosen) token.classList.add("chosen");
      box.append(token);
    }
  };
  draw(0, last);
  if (pieces.length > last) {
    const more = el("button", { class: "small", onclick: () => { more.remove(); draw(last, pieces.length); } }, `${pieces.length - last} tokens more`);
    box.append(more);
  }
  box.addEventListener("click", (event) => {
    const token = event.target.dataset.token;
    if (token !== undefined) state.set({ turn: place, token, side: event.target.closest(".episode").dataset.side }, { replace: true });
  });
  box.addEventListener("pointermove", (event) => {
    const i = event.target.dataset.token;
    if (i === undefined) return tip.hide();
    const rows = Object.entries(columns).map(([name, column]) => el("div", {}, el("span", { class: "quiet" }, `${name} `), el("b", {}, number(column[i], 4))));
    const found = columns.surprise ? el("div", {}, el("span", { class: "quiet" }, "probability "), el("b", {}, number(Math.exp(-columns.surprise[i]), 3))) : null;
    return tip.show(event, el("code", {}, visible(pieces[i]) || "(part of a character)"), el("div", { class: "quiet" }, `token ${i} · id ${ids[i]}`), ...rows, ...(found ? [found] : []));
  });
  box.addEventListener("pointerleave", tip.hide);
  return box;
}

// The arrow keys: the next token, or the one before, over all turns
function moveToken(by) {
  const all = [...document.querySelectorAll(".episode[data-side=main] .token")];
  if (!all.length) return;
  const now = all.findIndex((token) => token.classList.contains("chosen"));
  const next = all[Math.min(all.length - 1, Math.max(0, now < 0 ? 0 : now + by))];
  state.set({ turn: next.closest(".tokens").dataset.turn, token: next.dataset.token }, { replace: true });
}
