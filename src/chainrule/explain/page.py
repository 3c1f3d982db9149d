"""The HTML page around a drawing. One file: style, script and data are inside, nothing is loaded from outside."""

# ruff: noqa: E501 - the page, as it is served

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title><!--TITLE--></title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>
:root{font:14px ui-sans-serif,system-ui,"DejaVu Sans",sans-serif;color:#222}
body{margin:0;display:grid;grid-template:auto 1fr/1fr 380px;height:100vh}
header{grid-column:1/3;display:flex;gap:8px;align-items:center;padding:8px 12px;border-bottom:1px solid #bbb;flex-wrap:wrap}
header b{margin-right:12px}
button{font:inherit;padding:3px 10px;border:1px solid #777;border-radius:4px;background:#f6f6f6;cursor:pointer}
button:focus-visible,a:focus-visible{outline:3px solid #2166ac}
#view{overflow:auto;padding:8px;background:#fff}
aside{border-left:1px solid #bbb;overflow:auto;padding:12px;font-size:13px}
aside pre{white-space:pre-wrap;font:12px ui-monospace,"DejaVu Sans Mono",monospace}
table{border-collapse:collapse;margin:6px 0}td{padding:1px 6px 1px 0;vertical-align:top;font:12px ui-monospace,"DejaVu Sans Mono",monospace}
.key{display:inline-block;width:80px;height:10px;background:linear-gradient(90deg,rgb(88,140,193),#fff,rgb(198,130,68));border:1px solid #888}
kbd{border:1px solid #999;border-radius:3px;padding:0 4px;background:#f4f4f4;font-size:11px}
#where a{color:#2166ac}
</style></head><body>
<header><b><!--TITLE--></b><span id="where"></span><span style="flex:1"></span>
<button id="first" title="Home">|◀ first</button><button id="back" title="p or ←">◀ back</button><span id="count"></span>
<button id="next" title="n or →">next ▶</button></header>
<main id="view"></main>
<aside aria-live="polite"><div id="step"></div><pre id="detail">Click a box, or walk with Tab. Enter opens a box marked +.</pre>
<p><span class="key"></span><br>gradient: fading (blue) · median (white) · large (orange). Edges are as wide as the gradient that flows back.</p>
<p>Round: leaf that gets a gradient. Dashed: data. Double line: a module or a run of steps.</p>
<p><kbd>n</kbd>/<kbd>→</kbd> next backward step, <kbd>p</kbd>/<kbd>←</kbd> back, <kbd>Enter</kbd> open, <kbd>Esc</kbd> out, <kbd>Tab</kbd> walk</p></aside>
<script>
const G = /*DATA*/null;
let view = G.root, at = -1;
const $ = id => document.getElementById(id);
const esc = s => String(s).replace(/[&<>]/g, c => ({"&":"&amp;","<":"&lt;",">":"&gt;"}[c]));
function open_(id, focus) {
  view = id; $("view").innerHTML = G.views[id];
  const path = []; for (let k = id; k; k = G.titles[k].parent) path.unshift(k);
  $("where").innerHTML = path.map(k => k === id ? esc(G.titles[k].title) : `<a href="#" data-go="${k}">${esc(G.titles[k].title)}</a>`).join(" › ");
  for (const a of $("where").querySelectorAll("a")) a.onclick = e => { e.preventDefault(); open_(a.dataset.go); };
  for (const n of $("view").querySelectorAll(".n")) {
    n.onclick = () => n.classList.contains("group") ? open_(n.dataset.id, true) : show(n);
    n.onfocus = () => show(n);
    n.onkeydown = e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); n.onclick(); } };
  }
  mark();
  if (focus) { const n = $("view").querySelector(".n"); if (n) n.focus(); }
}
function show(n) { $("detail").textContent = n.querySelector("title").textContent; }
function boxOf(i) {
  for (const n of $("view").querySelectorAll(".n.op")) if (n.dataset.steps.split(",").includes(String(i))) return n;
  for (const n of $("view").querySelectorAll(".n.group")) if (+n.dataset.lo <= i && i <= +n.dataset.hi) return n;
  return null;
}
function mark() {
  for (const n of $("view").querySelectorAll(".on")) n.classList.remove("on");
  $("count").textContent = at < 0 ? `${G.steps.length} steps back` : `step ${at + 1} of ${G.steps.length}`;
  if (at < 0) { $("step").innerHTML = ""; return; }
  const [i, op, d, arrives, sent, line] = G.steps[at];
  const rows = sent.map(r => `<tr><td>${esc(r[0])}</td><td><b>${r[1]}</b></td><td>${esc(r[2])}</td><td>${esc(r[3])}</td></tr>`).join("");
  $("step").innerHTML = `<b>${esc(op)}</b> <code>${esc(line)}</code><br>arrives: ${esc(d)}, ${esc(arrives)}<table>${rows}</table><hr>`;
  const n = boxOf(i);
  if (n) { n.classList.add("on"); n.scrollIntoView({block: "nearest", inline: "nearest"}); }
}
function go(k) {
  at = Math.max(-1, Math.min(G.steps.length - 1, k));
  if (at >= 0 && !boxOf(G.steps[at][0])) open_(G.root); else mark();
}
$("next").onclick = () => go(at + 1); $("back").onclick = () => go(at - 1); $("first").onclick = () => go(0);
document.addEventListener("keydown", e => {
  if (e.key === "n" || e.key === "ArrowRight") go(at + 1);
  else if (e.key === "p" || e.key === "ArrowLeft") go(at - 1);
  else if (e.key === "Home") go(0); else if (e.key === "End") go(G.steps.length - 1);
  else if (e.key === "Escape" && G.titles[view].parent) open_(G.titles[view].parent, true);
  else return;
  e.preventDefault();
});
open_(G.root);
const m = location.hash.match(/step=(\\d+)/); if (m) go(+m[1]);
const o = location.hash.match(/open=(\\w+)/); if (o && G.views[o[1]]) open_(o[1]);
</script></body></html>
"""
