// The request builder with scripts: rows without a round trip, JSON checked while one types.
// Everything works without.

const form = document.getElementById("request");

// Choosing an account takes it up at once.
const choose = form?.querySelector("[data-choose]");
if (choose) {
  choose.hidden = true;
  document.getElementById("account").addEventListener("change", () => form.requestSubmit(choose));
}

// Among many accounts, those that fit what is typed.
const find = document.getElementById("find");
if (find) {
  form.querySelector("[data-find]").hidden = true;
  const list = document.getElementById("account");
  const all = [...list.children].map((node) => node.cloneNode(true));
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = list.value;
    list.replaceChildren(...all.map((node) => {
      const copy = node.cloneNode(true);
      for (const option of copy.querySelectorAll("option")) {
        const text = `${copy.label} ${option.textContent}`.toLowerCase();
        if (option.value !== chosen && !words.every((word) => text.includes(word))) option.remove();
      }
      return copy;
    }).filter((node) => node.tagName === "OPTION" || node.children.length > 0));
    list.value = chosen;
  });
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
}

const renumber = (rows) => {
  const kind = rows.dataset.rows;
  [...rows.children].forEach((pair, at) => {
    for (const field of pair.querySelectorAll("input")) {
      field.setAttribute("aria-label", `${field.placeholder || "File"} ${at + 1}`);
    }
    const button = pair.querySelector("button");
    button.value = `drop-${kind}-${at}`;
    button.setAttribute("aria-label", `Remove row ${at + 1}`);
  });
};

const fresh = (name, placeholder) => {
  const field = document.createElement("input");
  Object.assign(field, { className: "input mono", name, placeholder, autocomplete: "off", spellcheck: false });
  return field;
};

const addRow = (rows, label) => {
  const kind = rows.dataset.rows;
  const pair = document.createElement("div");
  pair.className = "pair";
  const button = document.createElement("button");
  Object.assign(button, { className: "button button-quiet button-small", name: "do", textContent: "✕", formNoValidate: true });
  pair.append(fresh(`${kind}.name`, label), fresh(`${kind}.value`, "Value"), button);
  rows.append(pair);
  renumber(rows);
  pair.querySelector("input").focus();
};

const LABELS = { query: "Parameter", header: "Header", field: "Field", part: "Field", file: "Field" };
const MOST_FILES = 10;

// A row of a file: the field's name, and the file itself.
const addFile = (rows) => {
  if (rows.children.length >= MOST_FILES) return;
  const pair = document.createElement("div");
  pair.className = "pair";
  const file = document.createElement("input");
  Object.assign(file, { className: "input", type: "file", name: "file" });
  const was = document.createElement("input");
  Object.assign(was, { type: "hidden", name: "file.was" });
  const cell = document.createElement("span");
  cell.className = "file";
  cell.append(file, was);
  const button = document.createElement("button");
  Object.assign(button, { className: "button button-quiet button-small", name: "do", textContent: "✕", formNoValidate: true });
  pair.append(fresh("file.name", "Field"), cell, button);
  rows.append(pair);
  renumber(rows);
  pair.querySelector("input").focus();
};

form?.addEventListener("click", (event) => {
  const button = event.target.closest("button[name=do]");
  if (!button) return;
  if (button.value.startsWith("add-")) {
    const kind = button.value.slice(4);
    event.preventDefault();
    if (kind === "file") return addFile(form.querySelector('[data-rows="file"]'));
    addRow(form.querySelector(`[data-rows="${kind}"]`), LABELS[kind]);
  } else if (button.value.startsWith("drop-")) {
    const rows = button.closest("[data-rows]");
    event.preventDefault();
    button.closest(".pair").remove();
    renumber(rows);
  }
});

// A sentence, not a verdict: the server checks it again.
const json = document.getElementById("json");
const said = document.getElementById("json-said");
json?.addEventListener("input", () => {
  if (json.value.trim() === "") {
    said.textContent = "It is checked before it is sent.";
    json.removeAttribute("aria-invalid");
    return;
  }
  try {
    JSON.parse(json.value);
    said.textContent = "This is JSON.";
    json.removeAttribute("aria-invalid");
  } catch (error) {
    said.textContent = `Not JSON yet: ${error.message}`;
    json.setAttribute("aria-invalid", "true");
  }
});

// Control and Enter send from anywhere in the form.
form?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit(form.querySelector("button[value=send]:not([tabindex])"));
  }
});

document.getElementById("answer")?.focus({ preventScroll: true });
