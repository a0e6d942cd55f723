// Comforts of the pages about callers. Everything works without.

// "Would this be allowed?" answers while one types: the same form is sent, and its answer put in.
for (const box of document.querySelectorAll("[data-try]")) {
  const form = box.closest("form");
  const shown = box.querySelector("#verdict");
  let waiting;
  let running;
  const ask = async () => {
    const fields = new URLSearchParams(new FormData(form));
    if (box.dataset.draft !== undefined) fields.set("draft", box.dataset.draft);
    running?.abort();
    if (!fields.get("url")?.trim()) {
      shown.replaceChildren();
      return;
    }
    running = new AbortController();
    try {
      const answer = await fetch(box.dataset.try, { method: "POST", body: fields, signal: running.signal });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById("verdict");
      if (!found) return;
      const open = shown.querySelector("details")?.open;
      shown.replaceChildren(...found.childNodes);
      const details = shown.querySelector("details");
      if (details && open) details.open = true;
    } catch {
      // A later key press asks again, and the button still works.
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 200);
  });
  box.addEventListener("click", (event) => {
    if (!event.target.closest("button")) return;
    event.preventDefault();
    ask();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("input")) return;
    event.preventDefault();
    ask();
  });
}
