/** The dashboard's script: a run's progress as it happens, and a button that copies. Without it, the page works all the same. */
export const script = `'use strict'
const said = document.getElementById('said')

async function load(address) {
  const response = await fetch(address, { headers: { Accept: 'text/html' } })
  if (!response.ok) throw new Error(String(response.status))
  return response.text()
}

function follow() {
  const progress = document.getElementById('progress')
  if (progress === null || progress.dataset.events === undefined) return
  const source = new EventSource(progress.dataset.events)
  let timer
  const say = () => { said.textContent = progress.querySelector('[data-say]').textContent }
  // Of many events within half a second, one look.
  const look = () => {
    timer ??= setTimeout(async () => {
      try { progress.innerHTML = await load(progress.dataset.progress) } catch {}
      timer = undefined
    }, 500)
  }
  const end = async () => {
    source.close()
    clearTimeout(timer)
    timer = 0
    try {
      const next = new DOMParser().parseFromString(await load(progress.dataset.after), 'text/html')
      document.getElementById('main').replaceChildren(...next.getElementById('main').childNodes)
      said.textContent = document.querySelector('[data-say]').textContent
      prepare()
    } catch { location.reload() }
  }
  for (const type of ['policy-started', 'step-finished', 'wait-started', 'wait-finished']) source.addEventListener(type, look)
  source.addEventListener('policy-finished', () => { look(); say() })
  source.addEventListener('run-finished', end)
  source.addEventListener('run-failed', end)
}

function prepare() {
  for (const button of document.querySelectorAll('[data-copy]')) {
    if (navigator.clipboard === undefined) continue
    button.hidden = false
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(button.dataset.copy)
      button.textContent = said.textContent = button.dataset.copied
    })
  }
}

prepare()
follow()
`
