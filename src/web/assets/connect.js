// The connect page: what a form alone cannot do. Without it every step works in one window; only in
// a product's frame the provider's button waits for it.
const page = document.querySelector(".connect-page");
const framed = window.parent !== window;
const NAME = "countersign-connect";

// To the product's page: only to the origins that its token names, never to whoever framed us.
function post(message) {
  if (!framed) return;
  let origins = JSON.parse(page.dataset.origins);
  const above = location.ancestorOrigins?.[0];
  if (above) origins = origins.length ? origins.filter((origin) => origin === above) : [above];
  for (const origin of origins) parent.postMessage(message, origin);
}

const say = (text) => {
  const status = document.getElementById("status");
  if (status) status.textContent = text;
};

// Begin: what every state of the page needs. Called again when a part was replaced.
function enliven() {
  const card = document.getElementById("card");
  const end = card.querySelector("[data-account], [data-error]");
  if (end && !page.hasAttribute("data-window")) {
    if (end.dataset.account) post({ type: "success", authProvisionId: end.dataset.account });
    else post({ type: "error", error: end.dataset.error });
  }
  if (end?.dataset.account && framed && page.hasAttribute("data-framed")) setTimeout(close, 2500);
  if (framed) for (const button of card.querySelectorAll("[data-close]")) button.hidden = false;
  for (const button of card.querySelectorAll("[data-reveal]")) button.hidden = false;
  for (const button of card.querySelectorAll("[data-noscript]")) button.hidden = true;
  // Pressed before this script was here, the frame would never learn what became of it.
  for (const button of card.querySelectorAll("[data-busy][disabled]")) button.disabled = false;
  const invalid = card.querySelector("[aria-invalid]");
  (card.querySelector("[data-focus]") ?? invalid)?.focus();
  if (card.querySelector("[data-closing]")) setTimeout(() => window.close(), 1500);
  const back = card.querySelector("[data-return]");
  if (back) {
    card.querySelector("[data-returning]").hidden = false;
    setTimeout(() => location.assign(back.href), 3000);
  }
}

let closed = false;
function close() {
  if (closed) return;
  closed = true;
  post({ type: "close" });
}

addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.hasAttribute("data-close")) close();
  if (button.dataset.reveal) reveal(button);
  if (button.hasAttribute("data-reopen")) open();
  if (button.hasAttribute("data-cancel")) location.assign(location.href);
});

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && page.querySelector(".connect-close")) close();
});

function reveal(button) {
  const input = document.getElementById(button.dataset.reveal);
  const show = input.type === "password";
  input.type = show ? "text" : "password";
  button.textContent = show ? "Hide" : "Show";
  button.setAttribute("aria-pressed", show);
}

// One form is sent once. The browser's back button brings the page back as it was left.
const busy = (form, on) => {
  const button = form.querySelector("[data-busy]");
  button.dataset.label ??= button.textContent;
  button.setAttribute("aria-disabled", on);
  button.textContent = on ? button.dataset.busy : button.dataset.label;
  if (on) say(button.dataset.busy);
};
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("[data-keys], [data-provider]")) busy(form, false);
});

let waiting;
let other;

addEventListener("submit", (event) => {
  const form = event.target;
  if (form.querySelector('[aria-disabled="true"]')) return event.preventDefault();
  if (form.dataset.keys) {
    event.preventDefault();
    send(form);
  } else if (form.dataset.provider) {
    if (!framed) form.removeAttribute("target");
    if (form.target) beside(form);
    busy(form, true);
  }
});

// Keys: sent beside the page, so that what was typed is still there when something is wrong.
async function send(form) {
  busy(form, true);
  try {
    const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (response.redirected) return location.replace(response.url);
    const html = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = html.getElementById("card");
    for (const typed of form.querySelectorAll('input[type="password"], input[id^="f."], textarea')) {
      const again = fresh.querySelector(`[id="${CSS.escape(typed.id)}"]`);
      if (again && !again.value) again.value = typed.value;
    }
    document.title = html.title;
    document.getElementById("card").replaceChildren(...fresh.childNodes);
    enliven();
  } catch {
    busy(form, false);
    say("This did not get through. Check your connection and try again.");
  }
}

// The provider: in a window of its own, because it does not let itself be framed. This page asks our
// server what became of it; between windows nothing is said, as providers may cut them apart.
function beside(form) {
  waiting = form;
  if (!form.querySelector('[name="window"]')) {
    const mark = Object.assign(document.createElement("input"), { type: "hidden", name: "window", value: "true" });
    form.append(mark);
  }
  const [width, height] = [600, 760];
  const left = screenX + Math.max(0, (outerWidth - width) / 2);
  const top = screenY + Math.max(0, (outerHeight - height) / 2);
  other = window.open("", NAME, `popup,width=${width},height=${height},left=${left},top=${top}`);
  form.target = other ? NAME : "_blank";
  show(other ? "open" : "blocked");
  watch(form);
}

function open() {
  busy(waiting, false);
  waiting.requestSubmit();
}

function show(what) {
  document.getElementById("ask").hidden = true;
  const wait = document.getElementById("wait");
  const before = wait.hidden;
  wait.hidden = false;
  for (const line of wait.querySelectorAll("[data-say]")) line.hidden = line.dataset.say !== what;
  if (before) wait.querySelector("h1").focus();
}

let watched;
function watch(form) {
  clearInterval(watched);
  const body = new URLSearchParams(new FormData(form));
  watched = setInterval(async () => {
    if (document.hidden && !other?.closed) return;
    const response = await fetch("/connect/state", { method: "POST", body }).catch(() => null);
    const { state } = (await response?.json().catch(() => null)) ?? {};
    if (state === "done" || state === "ended") {
      clearInterval(watched);
      other?.close();
      location.replace(form.dataset.result);
    } else if (other?.closed) show("closed");
  }, 1000);
}

// Search while typing.
const search = document.querySelector("[data-search]");
let typed;
search?.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(async () => {
    const address = `${search.getAttribute("action")}?${new URLSearchParams(new FormData(search))}`;
    const response = await fetch(address).catch(() => null);
    if (!response?.ok) return;
    const html = new DOMParser().parseFromString(await response.text(), "text/html");
    document.getElementById("results").replaceChildren(...html.getElementById("results").childNodes);
  }, 150);
});

enliven();
