// Filters, sorts and opens the cards. No task's text ever becomes markup here but what Python escaped and packed.
"use strict";

const $ = (id) => document.getElementById(id);
const list = document.querySelector(".cards");
const cards = [...list.children];
const viewer = $("viewer");
let filter = "all";
let current = null;

// Where a key is missing the card goes last, whatever the direction.
const missing = (card, key) => (card.dataset[key] === undefined ? 1 : 0);
const ascending = (key) => (a, b) => missing(a, key) - missing(b, key) || a.dataset[key] - b.dataset[key];
const descending = (key) => (a, b) => missing(a, key) - missing(b, key) || b.dataset[key] - a.dataset[key];
const orders = {
  order: ascending("order"),
  id: (a, b) => (a.dataset.id < b.dataset.id ? -1 : a.dataset.id > b.dataset.id ? 1 : 0),
  accuracy: descending("accuracy"),
  size: ascending("size"),
  votes: descending("votes"),
  seconds: descending("seconds"),
  segments: descending("segments"),
};

const inOrder = () => [...list.children].filter((card) => !card.hidden);
const opener = (card) => card.querySelector(".open");

function refresh() {
  const wanted = $("find").value.trim().toLowerCase();
  for (const card of cards) {
    const fits = (filter === "all" || card.dataset.state === filter) && card.dataset.id.toLowerCase().includes(wanted);
    card.hidden = !fits;
  }
  const n = cards.filter((card) => !card.hidden).length;
  $("shown").textContent = n === 1 ? "1 task shown" : `${n} tasks shown`;
}

function sort() {
  const order = orders[$("sort").value];
  list.append(...cards.sort((a, b) => order(a, b) || orders.order(a, b)));
}

async function unpack(card) {
  const bytes = Uint8Array.from(atob(card.querySelector(".more").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

const ADDRESS = "#task=";

// A frame may refuse: then the address stays as it is.
function setAddress(text) {
  try {
    history.replaceState(null, "", text);
  } catch {}
}

function showAddressed() {
  if (!location.hash.startsWith(ADDRESS)) return;
  const card = cards.find((c) => ADDRESS + encodeURIComponent(c.dataset.id) === location.hash);
  if (card && card !== current) show(card);
}

async function show(card) {
  current = card;
  setAddress(ADDRESS + encodeURIComponent(card.dataset.id));
  $("viewer-name").textContent = card.dataset.id;
  $("viewer-state").textContent = card.querySelector(".state").textContent;
  viewer.className = card.dataset.state;
  const cardsNow = inOrder();
  const at = cardsNow.indexOf(card);
  $("previous").disabled = at <= 0;
  $("next").disabled = at < 0 || at === cardsNow.length - 1;
  let markup;
  try {
    markup = await unpack(card);
  } catch {
    markup = "<p class='note'>This browser cannot unpack the details: it needs one from 2023 or later.</p>";
  }
  if (current !== card) return;
  $("viewer-body").innerHTML = markup;
  viewer.scrollTop = 0;
  if (!viewer.open) viewer.showModal();
  $("viewer-name").focus();
}

function step(by) {
  const cardsNow = inOrder();
  const card = cardsNow[cardsNow.indexOf(current) + by];
  if (card) show(card);
}

// The card above or below is the one in the next row whose left edge is nearest.
function neighbour(card, key) {
  const cardsNow = inOrder();
  const at = cardsNow.indexOf(card);
  if (key === "Home") return cardsNow[0];
  if (key === "End") return cardsNow.at(-1);
  if (key === "ArrowLeft") return cardsNow[at - 1];
  if (key === "ArrowRight") return cardsNow[at + 1];
  const down = key === "ArrowDown";
  const rest = down ? cardsNow.slice(at + 1) : cardsNow.slice(0, at).reverse();
  const row = rest.find((c) => (down ? c.offsetTop > card.offsetTop : c.offsetTop < card.offsetTop));
  if (!row) return undefined;
  const near = (c) => Math.abs(c.offsetLeft - card.offsetLeft);
  return rest.filter((c) => c.offsetTop === row.offsetTop).reduce((a, b) => (near(b) < near(a) ? b : a));
}

document.querySelector(".chips").addEventListener("click", (event) => {
  const chip = event.target.closest(".chip");
  if (!chip) return;
  filter = chip.dataset.filter;
  for (const other of document.querySelectorAll(".chip")) other.setAttribute("aria-pressed", String(other === chip));
  refresh();
});
$("sort").addEventListener("change", sort);
$("find").addEventListener("input", refresh);
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("close", () => {
  if (current && !current.hidden) opener(current).focus();
  current = null;
  setAddress("#tasks");
});
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) viewer.close();
});

document.addEventListener("click", (event) => {
  const card = event.target.closest(".open")?.closest(".card");
  if (card) show(card);
});

const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (viewer.open) {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
    return;
  }
  if (event.key === "/" && !event.target.matches("input, select")) {
    event.preventDefault();
    $("find").focus();
    return;
  }
  if (event.key === "Enter" && event.target === $("find")) {
    const [first] = inOrder();
    if (first) show(first);
    return;
  }
  const button = event.target.closest(".open");
  if (!button || !ARROWS.includes(event.key)) return;
  event.preventDefault();
  const card = neighbour(button.closest(".card"), event.key);
  if (card) opener(card).focus();
});

window.addEventListener("hashchange", showAddressed);
showAddressed();
