"use strict";

// Read-only: four GET calls every two seconds with the token of this tab. Everything shown is set as text, never as HTML.

const EVERY_MS = 2000;
const KEY = "gateway-token";
let timer = null;

const at = (id) => document.getElementById(id);

function el(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  for (const child of children) {
    made.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return made;
}

function table(heads, rows) {
  const head = el("tr", "", ...heads.map((text) => {
    const cell = el("th", "", text);
    cell.scope = "col";
    return cell;
  }));
  const body = rows.map((row) => el("tr", "", ...row.map((cell) => el("td", "", cell ?? ""))));
  return el("table", "", el("thead", "", head), el("tbody", "", ...body));
}

const when = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : "");
const figure = (value, digits = 3) => (typeof value === "number" ? value.toFixed(digits) : "");

function share(percent) {
  const bar = document.createElement("meter");
  bar.max = 100;
  bar.value = percent;
  bar.textContent = `${percent} %`;
  return el("span", "", bar, ` ${percent} %`);
}

function healthOf(model) {
  if (!model.route) return el("span", "warm", "no version in service");
  return model.health.ready ? el("span", "good", "ready") : el("span", "bad", "not ready");
}

function versionRows(model) {
  const live = (number) => model.live.find((one) => one.version === number);
  return [...model.versions].reverse().slice(0, 12).map((version) => {
    const seen = live(version.number);
    const condition = version.condition.quarantined ? "quarantined"
      : version.condition.rolled_back ? "rolled back" : "";
    const weight = model.weights[String(version.number)];
    return [
      `${model.name}@${version.number}`,
      version.role,
      weight === undefined ? "" : share(weight),
      seen ? seen.predictions : "",
      seen ? figure(seen.rolling.accuracy ?? seen.metrics.accuracy) : "",
      version.trigger || version.source,
      condition ? el("span", "bad", `${condition}: ${version.condition.reason}`) : "",
      when(version.created),
    ];
  });
}

// A measured figure and an estimate never share a column.
function liveRows(model) {
  return model.live.slice(0, 6).map((one) => [
    `${model.name}@${one.version}`,
    one.role,
    one.labelled || "",
    Object.keys(one.labels).length ? `${(100 * one.coverage).toFixed(0)} %` : "",
    figure(one.delay_seconds.p50, 1),
    named(one.rolling, ["accuracy", "f1", "roc_auc", "log_loss", "mae", "rmse", "r2"]),
    one.value_mean === null ? "" : figure(one.value_mean)
      + (one.value_interval ? ` (${one.value_interval.map((end) => figure(end)).join(" to ")})` : ""),
    "accuracy" in one.estimate
      ? el("span", "soft", `accuracy ~${figure(one.estimate.accuracy)} of ${one.estimate.rows} answers (by ${one.estimate.calibrated_on})`) : "",
  ]);
}

const named = (figures, names) => names.filter((name) => name in figures)
  .map((name) => `${name} ${figure(figures[name])}`).join(", ");

function liveTable(model) {
  const heads = ["live", "role", "labels", "coverage", "delay p50 s", "newest labels", "value", "estimate"];
  const parts = model.live.length ? [table(heads, liveRows(model))] : [];
  if (model.slices.length) {
    parts.push(table(["weakest slices", "version", "role", "labels", "newest labels"], model.slices.map((one) => [
      one.slice, `${model.name}@${one.version}`, one.role, one.rolling_labelled,
      named(one.rolling, ["accuracy", "f1", "mae", "rmse"]),
    ])));
  }
  const online = model.online;
  if (online.river) {
    const fair = online.when_answered;
    const beside = fair.rows ? `: ${online.metric} ${figure(fair.rolling_online)} beside the champion's `
      + `${figure(fair.rolling_champion)} on the newest ${fair.rolling_rows} rows` : "";
    parts.push(el("p", online.note ? "warm" : "soft",
      `online model ${online.river}, ${online.learned} labels learned${beside} ${online.note}`));
  }
  return el("div", "", ...parts);
}

function rolloutLine(model) {
  const rollout = model.rollout;
  if (!rollout) return el("p", "soft", "no rollout so far");
  const tone = { rolled_back: "bad", promoted: "good" }[rollout.phase] ?? "warm";
  return el("p", "", "rollout of ", `${model.name}@${rollout.version}: `, el("span", tone, rollout.phase),
    ` (step ${rollout.step + 1} of ${rollout.steps.length}, ${rollout.plan}) ${rollout.reason}`);
}

function experimentLine(model) {
  const experiment = model.experiment;
  if (!experiment) return "";
  const versions = experiment.versions.map((number) => `@${number}`).join(" ");
  const tone = experiment.phase === "running" ? "warm" : "soft";
  return el("p", "", `experiment ${experiment.number} with ${versions} on ${experiment.metric}: `,
    el("span", tone, `${experiment.phase}, ${experiment.verdict}`), ` ${experiment.reason}`);
}

function alertTable(model) {
  if (!model.alerts.latest.length) return el("p", "soft", model.note || "no alerts");
  const rows = model.alerts.latest.map((alert) => [
    when(alert.time), `${alert.role ?? ""} ${alert.kind}`, alert.detector, alert.severity, alert.message,
    alert.verdict ?? "", alert.state ?? "",
  ]);
  return table(["alert", "kind", "detector", "severity", "what", "verdict", "state"], rows);
}

function modelCard(model) {
  const title = el("div", "line", el("h3", "", model.name), healthOf(model));
  if (model.frozen) title.append(el("span", "warm", `frozen: ${model.frozen_reason}`));
  if (model.policy.diverged) title.append(el("span", "warm", "policy file diverged"));
  if (model.policy.error) title.append(el("span", "bad", model.policy.error));
  if (model.job) title.append(el("span", "soft", `job ${model.job.state}`));
  const heads = ["version", "role", "weight", "answers", "accuracy", "from", "condition", "published"];
  return el("div", "card", title, table(heads, versionRows(model)), liveTable(model), rolloutLine(model), experimentLine(model),
    alertTable(model));
}

function show({ models, jobs, entries }) {
  at("models").replaceChildren(
    ...(models.length ? models.map(modelCard) : [el("p", "empty", "No model yet: gateway publish NAME model.onnx")]));
  at("jobs").replaceChildren(jobs.length
    ? el("div", "card", table(["job", "model", "trigger", "state", "rows", "version", "detail", "created"], jobs.map((job) => [
        job.id, job.model, job.trigger, job.state, job.rows || "", job.version || "", job.detail || job.reason, when(job.created),
      ])))
    : el("p", "empty", "No jobs so far."));
  at("audit").replaceChildren(entries.length
    ? el("div", "card", table(["when", "who", "what", "subject", "why"], [...entries].reverse().map((entry) => [
        when(entry.time), entry.actor, entry.action, entry.subject, entry.reason,
      ])))
    : el("p", "empty", "No changes so far."));
}

async function get(path, token) {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail ?? `status ${answer.status}`), { status: answer.status });
  }
  return answer.json();
}

async function refresh() {
  const token = sessionStorage.getItem(KEY);
  if (!token) return;
  try {
    const [{ models }, { jobs }, { entries }] = await Promise.all([
      get("/admin/models", token), get("/admin/jobs?limit=10", token), get("/admin/audit?last=15", token),
    ]);
    show({ models, jobs, entries });
    at("state").textContent = `as of ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    at("state").textContent = error.message;
    if (error.status === 401 || error.status === 403) return;
  }
  timer = setTimeout(refresh, EVERY_MS);
}

function start() {
  clearTimeout(timer);
  at("forget").hidden = !sessionStorage.getItem(KEY);
  refresh();
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = at("token").value.trim();
  if (token) sessionStorage.setItem(KEY, token);
  at("token").value = "";
  start();
});

at("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});

start();
