/** The dashboard's looks: one calm column, numbers that align, light and dark by what the reader prefers. */

/** `page.svg`: an archive box. */
export const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#1f6f78" d="M3 5h26v7H3zM5 14h22v14H5z"/><path fill="#fff" d="M12 17h8v3h-8z"/></svg>`

export const style = `:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --sheet: #fff; --ink: #1d2327; --soft: #5d676e; --line: #e4e1dc; --faint: #f3f1ed;
  --accent: #17626b; --accent-ink: #fff; --good: #2c6b3f; --due: #8a5a00; --bad: #b3261e; --bad-ground: #fdf1ef;
  --bar-rows: #2b7f89; --bar-bytes: #b07d3c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181a; --sheet: #1b2023; --ink: #e6e8e8; --soft: #9ba6ac; --line: #2d3438; --faint: #22282b;
    --accent: #6cc3cd; --accent-ink: #0d2326; --good: #86c99a; --due: #e0b05e; --bad: #ff9d94; --bad-ground: #321e1c;
    --bar-rows: #5db3bd; --bar-bytes: #cf9f62;
  }
}
* { box-sizing: border-box; }
html { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Apple SD Gothic Neo', 'Malgun Gothic', 'Noto Sans KR', 'Noto Sans CJK KR', sans-serif; -webkit-text-size-adjust: 100%; }
body { max-width: 76rem; margin: 0 auto; padding: 0 1.5rem 3rem; }
:lang(ko) { word-break: keep-all; }
a { color: inherit; text-underline-offset: .2em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
main:focus { outline: none; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1.25rem; padding: 1.6rem 0 .4rem; }
h1 { margin: 0; font-size: 1.5rem; font-weight: 650; letter-spacing: -.015em; }
h1 a { text-decoration: none; }
nav { margin-left: auto; display: flex; gap: 1rem; align-items: baseline; color: var(--soft); }
h2 { margin: 0; font-size: 1.05rem; font-weight: 650; }
section { margin-top: 1.5rem; padding: 1.1rem 1.25rem 1.25rem; background: var(--sheet); border: 1px solid var(--line); border-radius: 8px; }
section > h2 + * { margin-top: .6rem; }
.heading { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: .5rem; margin-bottom: .5rem; }
p { margin: .4rem 0; }
.overview { font-size: 1.05rem; margin: .2rem 0 0; }
.quiet, .when, .empty { color: var(--soft); }
.when { display: block; font-size: .87rem; }
.overview .good { color: var(--good); } span.bad, strong.bad { color: var(--bad); }
code { font: .87em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; overflow-wrap: anywhere; }
time { font-variant-numeric: tabular-nums; }
.unseen { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: 1rem; top: -4rem; padding: .5rem 1rem; background: var(--sheet); border: 1px solid var(--line); }
.skip:focus { top: .5rem; z-index: 1; }

table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .6rem .75rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); font-weight: inherit; }
th:first-child, td:first-child { padding-left: 0; } th:last-child, td:last-child { padding-right: 0; }
thead th { padding-block: .3rem; border-top: 0; color: var(--soft); font-size: .87rem; white-space: nowrap; }
td { white-space: nowrap; }
.number { text-align: right; }
.narrow { width: auto; margin-top: .5rem; } .narrow th, .narrow td { padding-block: .3rem; }
tbody th { overflow-wrap: anywhere; min-width: 11rem; }
.table { color: var(--soft); margin-left: .3rem; }
tr.due td:nth-child(2) { color: var(--due); font-weight: 600; }
tr.bad td:nth-child(2) { color: var(--bad); font-weight: 600; }
.mark { display: inline-block; padding: 0 .45em; font-size: .8rem; font-weight: 600; color: var(--soft); border: 1px solid currentColor; border-radius: 9px; }
.mark.bad { color: var(--bad); }
td.number .mark { display: block; width: fit-content; margin: .1rem 0 0 auto; }
.note { margin: .45rem 0 0; padding-left: .7rem; border-left: 2px solid var(--line); color: var(--soft); font-size: .92rem; overflow-wrap: anywhere; max-width: 44rem; }
.note.bad { color: var(--bad); border-color: var(--bad); }
.note.hold { border-color: var(--due); }
.hint { display: block; color: var(--ink); } .message { white-space: pre-line; }
.name { font: .87em/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
.state.restored, .state.pruned { color: var(--soft); }

button { font: inherit; font-size: .92rem; padding: .22rem .8rem; color: var(--accent); background: none; border: 1px solid var(--accent); border-radius: 5px; cursor: pointer; }
button:hover { background: var(--faint); }
button.main { background: var(--accent); color: var(--accent-ink); }
button.main:hover { filter: brightness(1.1); }
button.plain { padding: 0; border: 0; color: inherit; font-size: inherit; text-decoration: underline; text-underline-offset: .2em; }
.buttons { display: flex; gap: .4rem; justify-content: flex-end; }
details { margin-top: .6rem; } .restore { margin-top: .15rem; font-size: .92rem; }
summary { color: var(--soft); cursor: pointer; width: fit-content; }
.restore code { padding: .15rem .4rem; background: var(--faint); border-radius: 4px; user-select: all; }
[data-copy] { padding: 0 .5rem; }

.panels { display: grid; grid-template-columns: 1fr 1fr; gap: 1.25rem 2.5rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-variant-numeric: tabular-nums; }
figcaption strong { margin-right: .4rem; font-weight: 600; }
svg { display: block; width: 100%; height: 7.5rem; margin-top: .6rem; border-bottom: 1px solid var(--soft); }
rect { fill: var(--bar-rows); } figure + figure rect { fill: var(--bar-bytes); }
rect:hover { opacity: .75; }
.axis { display: flex; justify-content: space-between; margin-top: .25rem; color: var(--soft); font-size: .87rem; font-variant-numeric: tabular-nums; }

.progress { list-style: none; margin: .6rem 0 0; padding: 0; }
.progress li { display: grid; grid-template-columns: minmax(7rem, 12rem) minmax(6rem, 1fr) auto minmax(7rem, auto); gap: .2rem 1rem; align-items: center; padding: .45rem 0; border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; }
.progress li > .note { grid-column: 1 / -1; }
.summary.finished { color: var(--good); } .summary.failed { color: var(--bad); } .summary { font-weight: 600; }
progress { width: 100%; height: .5rem; appearance: none; border: 0; border-radius: 4px; overflow: hidden; background: var(--line); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
#run { border-color: var(--accent); }

.sign-in { max-width: 24rem; margin: 3rem auto; padding: 1.5rem; background: var(--sheet); border: 1px solid var(--line); border-radius: 8px; }
.sign-in label { font-weight: 600; }
.sign-in input { display: block; width: 100%; margin: .3rem 0; padding: .45rem .6rem; font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--soft); border-radius: 5px; }
.sign-in button { margin-top: .6rem; }

@media (max-width: 60rem) {
  body { padding: 0 1rem 2rem; }
  section { padding: .9rem 1rem 1rem; }
  .panels { grid-template-columns: 1fr; }
  .cards, .cards tbody, .cards tr, .cards td, .cards th { display: block; width: auto; }
  .cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .cards tr { padding: .75rem 0; border-top: 1px solid var(--line); }
  .cards th, .cards td { padding: .1rem 0; border: 0; text-align: left; }
  .cards td[data-label] { display: flex; justify-content: space-between; gap: 1rem; white-space: normal; text-align: right; }
  .cards td[data-label]::before { content: attr(data-label); color: var(--soft); text-align: left; font-weight: 400; }
  .cards tbody th { margin-bottom: .35rem; }
  .cards .actions { margin-top: .5rem; }
  .cards .actions button { padding-block: .45rem; }
  .when { display: inline; margin-left: .3rem; }
  td.number .mark { display: inline-block; margin-left: .3rem; }
  .progress li { grid-template-columns: 1fr auto; }
  .progress li progress { grid-column: 1 / -1; grid-row: 2; }
}
@media (max-width: 26rem) { nav { margin-left: 0; width: 100%; } }
@media print { .buttons, nav, .skip { display: none; } }
`
