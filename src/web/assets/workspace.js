// What pages of members do more comfortably with scripts. Everything works without.

// A form that is on its way says so, and is not sent twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  if (form.method !== "post") return;
  form.dataset.sent = "yes";
  const button = event.submitter;
  if (!button || !form.dataset.busy) return;
  const spinner = document.createElement("span");
  spinner.className = "spinner";
  spinner.setAttribute("aria-hidden", "true");
  button.replaceChildren(spinner, form.dataset.busy);
  button.setAttribute("aria-disabled", "true");
});

// Coming back by the back button shows the page as it was left.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// A search that answers while one types: the same page is asked for, and its results are put in.
for (const form of document.querySelectorAll("form[data-live]")) {
  let waiting;
  let running;
  const look = async () => {
    const address = new URL(form.action || location.href);
    address.search = new URLSearchParams(new FormData(form)).toString();
    running?.abort();
    running = new AbortController();
    try {
      const answer = await fetch(address, { signal: running.signal, headers: { accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById("results");
      const shown = document.getElementById("results");
      if (!found || !shown) return;
      shown.replaceWith(found);
      history.replaceState(null, "", address);
    } catch {
      // A later key press asks again, and the button still works.
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 150);
  });
}

// A button beside a secret shows what was typed.
for (const button of document.querySelectorAll("button[data-reveal]")) {
  const input = document.getElementById(button.dataset.reveal);
  button.hidden = false;
  button.addEventListener("click", () => {
    const show = input.type === "password";
    input.type = show ? "text" : "password";
    button.textContent = show ? "Hide" : "Show";
    button.setAttribute("aria-pressed", show);
  });
}

// A button that copies what stands in another element.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  if (!source || !navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const label = button.textContent;
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}

// A project's logo travels in the form, as a data URL.
for (const field of document.querySelectorAll("[data-logo]")) {
  const [file] = field.querySelectorAll("input[type=file]");
  const [value] = field.querySelectorAll("input[name=logo]");
  field.hidden = false;
  file.addEventListener("change", () => {
    const [picture] = file.files;
    if (!picture) return;
    const reader = new FileReader();
    reader.addEventListener("load", () => { value.value = reader.result; });
    reader.readAsDataURL(picture);
  });
  field.querySelector("button")?.addEventListener("click", (event) => {
    value.value = "remove";
    event.target.textContent = "Removed when you save";
  });
}

// A form that is sent now and then, until its answer says where to go on.
for (const form of document.querySelectorAll("form[data-poll]")) {
  form.querySelector("[data-polling]").hidden = false;
  const look = async () => {
    const body = new URLSearchParams(new FormData(form));
    const headers = { accept: "application/json" };
    const answer = await fetch(form.action, { method: "POST", headers, body }).catch(() => null);
    if (answer && !answer.ok) return location.reload();
    const { to, after } = (await answer?.json().catch(() => null)) ?? {};
    if (to) location.assign(to);
    else setTimeout(look, (after ?? form.dataset.poll) * 1000);
  };
  setTimeout(look, form.dataset.poll * 1000);
}
