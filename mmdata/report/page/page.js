"use strict";
const cards = [...document.querySelectorAll(".card")];
const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
const [text, source, split, reason] = ["text", "source", "split", "reason"].map((id) =>
  document.getElementById(id));
let current = -1;

function matches(card) {
  return words.get(card).includes(text.value.toLowerCase())
    && (!source.value || card.dataset.source === source.value)
    && (!split.value || card.dataset.split === split.value)
    && (!reason.value || card.dataset.kind === reason.value);
}

function filter() {
  for (const card of cards) card.hidden = !matches(card);
  const shown = cards.filter((card) => !card.hidden).length;
  document.getElementById("shown").textContent = `${shown} of ${cards.length} shown`;
}

function go(step) {
  const shown = cards.filter((card) => !card.hidden);
  if (!shown.length) return;
  const at = shown.indexOf(cards[current]);
  const next = shown[Math.min(Math.max(at + step, 0), shown.length - 1)];
  cards[current]?.classList.remove("current");
  current = cards.indexOf(next);
  next.classList.add("current");
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

document.getElementById("filter").addEventListener("input", filter);
document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("theme").addEventListener("click", turnTheme);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
  else if (event.key === "/") text.focus();
  else if (event.key === "t") {
    const tokens = cards[current]?.querySelector(".tokens");
    if (tokens) tokens.open = !tokens.open;
  } else return;
  event.preventDefault();
});
filter();
