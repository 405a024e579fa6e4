// In a page that was sent as one file: answers out of the file itself.
"use strict";

const rounded = (value) => (value === undefined || value === "" || value === null ? null : Number(value));

function answerFromFile(name, query) {
  const kept = window.EXPORTED;
  const wanted = (query.runs || "").split("\n");
  if (name === "runs" || name === "evaluations") return kept[name];
  if (name === "curves") return Object.fromEntries(wanted.filter((run) => kept.curves[run]).map((run) => [run, kept.curves[run]]));
  if (name === "differences") return differencesFromFile(kept.differences, wanted);
  if (name === "steps") return kept.steps[query.run] || { steps: [], progress: 1 };
  if (name === "episodes") return episodesFromFile(kept.episodes[query.run] || [], query);
  if (name === "episode") return kept.episode[[query.run, query.step, query.row].join("\n")] || absent();
  if (name === "replays") return kept.replays[[query.run, query.step].join("\n")] || [];
  if (name === "comparison") {
    const sides = [query.before_run, query.before_folder, query.after_run, query.after_folder];
    return kept.comparisons[[query.benchmark, query.change, ...sides].join("\n")] || absent();
  }
  return absent();
}

function absent() {
  throw new Error("This is not in the file that was sent; llmrl view shows it beside the run.");
}

function differencesFromFile(all, wanted) {
  const places = all.runs.map((run, i) => [run, i]).filter(([run]) => wanted.includes(run));
  const rows = all.rows.map((row) => ({ key: row.key, values: places.map(([, i]) => row.values[i]) }));
  return { runs: places.map(([run]) => run), rows: rows.filter((row) => new Set(row.values).size > 1) };
}

function episodesFromFile(all, query) {
  const words = (query.text || "").toLowerCase();
  const least = { tokens: rounded(query.least_tokens), reward: rounded(query.least_reward) };
  const most = { tokens: rounded(query.most_tokens), reward: rounded(query.most_reward) };
  const within = (row) => ["tokens", "reward"].every((name) => (least[name] === null || row[name] >= least[name]) && (most[name] === null || row[name] <= most[name]));
  const found = all.filter(
    (row) =>
      (!query.step || String(row.step) === String(query.step)) &&
      (!query.verdict || (row.verdict || "none") === query.verdict) &&
      (!query.truncated || row.truncated === (query.truncated === "1")) &&
      within(row) &&
      (!words || row.words.toLowerCase().includes(words)),
  );
  const key = (row) => (query.order === "verdict" ? row.verdict || "" : row[query.order] ?? 0);
  if (query.order && query.order !== "file") found.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
  if (query.descending) found.reverse();
  const first = Number(query.offset || 0);
  return { total: found.length, searched: 1, progress: 1, offset: first, rows: found.slice(first, first + Number(query.limit || 200)) };
}
