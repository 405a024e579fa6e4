// A step taken again (llmrl replay --view): its table, verdicts under another reward, tokens by the change of credit.
"use strict";

const REPLAYED_FIRST = 20; // episodes, those whose credit changes most; the rest on demand
const replays = { key: "", found: [], chosen: "" };

async function drawReplays(run, step, changed) {
  const box = at("replays");
  const key = JSON.stringify([run, step, changed]);
  if (key === replays.key && box.dataset.key === key) return;
  if (key !== replays.key) {
    const found = step === "" || step === "all" ? [] : await ask("replays", { run, step });
    Object.assign(replays, { key, found, chosen: "" });
  }
  box.dataset.key = key;
  box.replaceChildren(...replays.found.map(replayOf));
}

function replayOf(replay) {
  if (replay.error) return note(`replays/${replay.file}: ${replay.error}`, "failed");
  const body = el("div", { class: "replayed" });
  const others = replay.algorithms.slice(1).map((each) => String(each.label));
  const draw = () => body.replaceChildren(...[tokensReplayed(replay, others)].flat());
  const picker = others.length > 1 ? choice("tokens by change of credit under", others.map((label) => [label, label]), others[0], (label) => { replays.chosen = label; draw(); }) : "";
  draw();
  return el(
    "details",
    { class: "replay" },
    el("summary", {}, `replayed: ${replay.same ? "as recorded" : "differs from the record"}`, others.length ? ` · against ${others.join(", ")}` : ""),
    (replay.notes || []).map((text) => note(text, "missing")),
    algorithmsTable(replay.algorithms),
    Object.entries(replay.verdicts).map(([label, pairs]) => verdictsTable(label, pairs)),
    others.length ? el("h3", {}, "Change of credit") : "",
    picker,
    body,
  );
}

function algorithmsTable(algorithms) {
  const inside = (each, part, name) => number((each[part] || {})[name]);
  const rows = [
    ["loss", (each) => number(each.loss)],
    ["gradient, norm", (each) => inside(each, "gradient", "norm")],
    ["gradient, cosine", (each) => inside(each, "gradient", "cosine")],
    ["update, norm", (each) => inside(each, "update", "norm")],
    ["update, cosine", (each) => inside(each, "update", "cosine")],
    ["clip share", (each) => number(each.clip_share)],
    ["tokens that gain", (each) => inside(each, "tokens", "gain")],
    ["tokens that lose", (each) => inside(each, "tokens", "lose")],
    ["pushed the other way", (each) => inside(each, "tokens", "flip")],
  ];
  return table(["", ...algorithms.map((each) => each.label)], rows.map(([name, cell]) => [name, ...algorithms.map(cell)]));
}

function verdictsTable(label, pairs) {
  const changed = pairs.filter((pair) => pair.before.verdict !== pair.now.verdict || pair.before.value !== pair.now.value);
  const rows = changed.map((pair) => [
    `${pair.problem} · episode ${pair.episode}`,
    [verdictBadge(pair.before.verdict), ` ${number(pair.before.value)}`],
    [verdictBadge(pair.now.verdict), ` ${number(pair.now.value)}`],
    pair.now.reason || "",
  ]);
  return [
    el("h3", {}, `${label}: ${changed.length} of ${pairs.length} verdicts or scores change`),
    rows.length ? table(["episode", "recorded", "now", "reason"], rows) : "",
  ];
}

function tokensReplayed(replay, others) {
  const label = others.includes(replays.chosen) ? replays.chosen : others[0];
  if (label === undefined) return [];
  const recorded = String(replay.algorithms[0].label);
  const changes = replay.episodes.map((episode) => {
    const before = episode.credit[recorded] || [];
    const change = (episode.credit[label] || []).map((value, i) => value - (before[i] || 0));
    return { episode, before, change, size: change.reduce((sum, value) => sum + Math.abs(value), 0) };
  });
  changes.sort((a, b) => b.size - a.size);
  const scale = scaleOf(changes.map(({ change }) => ({ tokens: { columns: { credit: change.filter(Boolean) } } })), "credit");
  const shown = (each) => replayedEpisode(each, label, scale);
  const parts = [note(scale ? "Blue gains, orange loses; the darkest is at the 98th percentile of the step." : "No token's share of the credit changes."), ...changes.slice(0, REPLAYED_FIRST).map(shown)];
  const rest = changes.slice(REPLAYED_FIRST);
  if (rest.length) {
    const more = el("button", { class: "small", onclick: () => more.replaceWith(...rest.map(shown)) }, `${rest.length} episodes more`);
    parts.push(more);
  }
  return parts;
}

function replayedEpisode({ episode, before, change }, label, scale) {
  const box = el("div", { class: "tokens" });
  episode.texts.forEach((text, i) => {
    const own = episode.turn_ids[i] !== -1;
    const title = own ? `credit ${number(before[i])} as recorded, ${number((episode.credit[label] || [])[i])} under ${label}` : "no token of the policy";
    const token = el("span", { class: own ? "token" : "token quiet", title, "data-change": own ? Math.sign(change[i] || 0) : null }, text);
    const colour = background(change[i], "advantage", scale);
    if (colour) token.style.backgroundColor = colour;
    box.append(token);
  });
  return el("div", { class: "message m-policy" }, el("div", { class: "role" }, `${episode.group} · episode ${episode.episode}`, el("span", { class: "quiet" }, ` reward ${number(episode.reward)}`)), box);
}
