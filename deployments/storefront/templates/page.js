// The page's script; Gradio calls it with its component as `element`. It keeps this visit's pictures, in memory alone.
const $ = (id) => element.querySelector("#" + id);
const MOST = 24;            // pictures of this visit
const LARGEST_SEED = 4294967285;
const DRAW = 0, VOTE = 1;   // the functions in Gradio's queue
const history = [], votes = new Map();
let offers = {problem: "Opening …", models: [], waiting: 0, seconds: 0};
let drawing = null, wanted = false, touched = false;

// Gradio's queue

const hash = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const sessions = [hash(), hash()];  // one a function: a session's answers come in one stream
const REFUSED = {
  401: "The key that was sent is not valid, or not for this.",
  413: "That is too long.",
  422: "That can't be drawn as it is. If you did not change the page, reload it.",
  429: "You have many requests open. Wait for them, or reload the page.",
  503: "Very many visitors are here. Please try again in a moment.",
};
class Problem extends Error {}

async function call(number, data, signal, onwait) {
  const session_hash = sessions[number];
  const body = JSON.stringify({data, fn_index: number, session_hash});
  const headers = {"Content-Type": "application/json"};
  const joined = await fetch("gradio_api/queue/join", {method: "POST", headers, body, signal});
  if (!joined.ok) throw new Problem(REFUSED[joined.status] || "That did not work. Please try again.");
  const {event_id} = await joined.json();
  signal?.addEventListener("abort", () => {
    sessions[number] = hash();
    fetch("gradio_api/cancel", {method: "POST", headers, body: JSON.stringify({session_hash, fn_index: number, event_id})});
  });
  const stream = await fetch("gradio_api/queue/data?session_hash=" + session_hash, {signal});
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", part; !(part = await reader.read()).done;) {
    const lines = (text + part.value).split("\n");
    text = lines.pop();
    for (const line of lines.filter((each) => each.startsWith("data:"))) {
      const message = JSON.parse(line.slice(5));
      if (message.msg === "estimation" && message.event_id === event_id) onwait?.(message.rank);
      if (message.msg === "process_starts" && message.event_id === event_id) onwait?.(0);
      if (message.msg === "process_completed" && message.event_id === event_id) return answer(message);
    }
  }
  throw new Problem("The connection was lost. Please try again.");
}

function answer(message) {
  const found = message.success && message.output.data && message.output.data[0];
  if (!found) throw new Problem("That did not work. Please try again.");
  if (found.problem) throw new Problem(found.problem);
  return found;
}

// What is offered

async function refresh() {
  try {
    const answered = await fetch("offers", {cache: "no-store"});
    if (!answered.ok) throw new Error(answered.status);
    offers = await answered.json();
  } catch {
    offers = {...offers, problem: "the storefront can't be reached"};
  }
  show_offers();
  if (!offers.problem && wanted) draw();
}

const model = () => offers.models.find((each) => each.name === $("model").value) || offers.models[0];
const named = (generation) => generation ? "generation " + generation : "the bare base";

function show_offers() {
  options($("model"), offers.models.map((each) => [each.name, each.name + ": " + each.about]));
  $("choice").hidden = offers.models.length < 2;
  show_model();
  if (drawing) return;
  const then = wanted ? " Yours is drawn as soon as it can be." : " You can write already.";
  if (offers.problem) say(offers.models.length ? "Not ready yet: " + offers.problem + "." + then : offers.problem, false, "offers");
  else if ($("status").dataset.by === "offers" || !$("status").dataset.by) say("Ready.", false, "offers");
}

function show_model() {
  const chosen = model();
  if (!chosen) return;
  const newest = chosen.generation ? "Newest: generation " + chosen.generation : "Newest: the bare base";
  const others = chosen.generations.map((each) => [each.name, each.generation ? "Generation " + each.generation : "Bare base, without the style"]);
  options($("version"), [[chosen.name, newest], ...others]);
  options($("size"), [["", chosen.sizes[0] ? chosen.sizes[0].replace("x", " × ") : "Its own"],
    ...chosen.sizes.slice(1).map((size) => [size, size.replace("x", " × ")])]);
  $("lead").textContent = "Draws " + chosen.about + ". Say what it should show.";
  $("style").textContent = chosen.generation ? "With the word " + chosen.trigger + " it draws in its own style."
    : "It has not learned a style yet: the bare base draws.";
  const texts = chosen.examples.map((text) => make("button", {type: "button", textContent: text, onclick: () => fill(text)}));
  if (texts.map((each) => each.textContent).join() !== [...$("examples").children].map((each) => each.textContent).join())
    $("examples").replaceChildren(...texts);
  if (!touched) $("prompt").value = chosen.examples[0] || "";
  if (!$("why").dataset.chosen) show_why(chosen, chosen.generation);
}

function fill(text) {
  touched = true;
  $("prompt").value = text;
  $("prompt").focus();
}

function options(select, pairs) {
  if (JSON.stringify(pairs) === select.dataset.pairs) return;
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, textContent]) => make("option", {value, textContent})));
  if (pairs.some(([value]) => value === before)) select.value = before;
  select.dataset.pairs = JSON.stringify(pairs);
}

// Why a model draws

function show_why(chosen, generation) {
  const found = chosen.generations.find((each) => each.generation === generation);
  $("why-title").textContent = generation ? "Why " + chosen.name + ", generation " + generation + "?" : "Why the bare base?";
  $("why-text").replaceChildren(...why(generation, found));
  const listed = chosen.generations.filter((each) => each.generation);
  $("earlier").hidden = listed.length < 2;
  $("generations").replaceChildren(...listed.map((each) => make("li", {textContent: line(each)})));
}

function why(generation, found) {
  if (!generation) return [make("p", {textContent: "The base model draws as it came: nothing has been learned of this style yet, or what was learned was not good enough to be shown. The first model that passes takes its place here by itself."})];
  const said = [make("p", {textContent: "Each new generation has to draw the same prompts with the same seeds as the one before it. It takes its place when it is measurably better, and worse in nothing that is watched."})];
  if (found?.promoted) said.push(make("p", {textContent: "This one has been chosen on " + day(found.promoted) + ", for this reason:"}));
  if (found?.reason) said.push(make("blockquote", {textContent: found.reason}));
  return said;
}

const line = (each) => "Generation " + each.generation + ", " + day(each.promoted) + ": " + (each.reason || "no reason is recorded");
const day = (date) => new Date(date + "T12:00:00Z").toLocaleDateString("en-GB", {dateStyle: "long"});
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Drawing

async function draw() {
  touched = true;
  wanted = Boolean(offers.problem);
  if (drawing) return;
  if (!$("prompt").value.trim()) { say("Say first what the picture should show.", true); $("prompt").focus(); return; }
  const seed = $("seed").value.trim();
  if (seed && !(/^[0-9]{1,10}$/.test(seed) && Number(seed) <= LARGEST_SEED)) {
    say("A seed is a whole number from 0 to " + LARGEST_SEED + ".", true); $("advanced").open = true; $("seed").focus(); return;
  }
  if (wanted) { show_offers(); return; }
  const count = Number(element.querySelector("[name=count]:checked").value);
  const prompt = $("prompt").value;
  drawing = {abort: new AbortController(), start: performance.now(), rank: 0, seconds: Infinity, asked: -Infinity};
  busy(true, count);
  try {
    const data = [$("version").value, prompt, $("negative").value, count, $("size").value, seed ? Number(seed) : null];
    const made = await call(DRAW, data, drawing.abort.signal, (rank) => { if (drawing) drawing.rank = rank; });
    const pictures = made.pictures.map((picture) => ({...picture, prompt}));
    history.unshift(...pictures.slice().reverse());
    for (const old of history.splice(MOST)) votes.delete(old.id);
    show_frames(count, pictures);
    show_history();
    say(summary(pictures, made.flagged));
    const champion = model();
    if (pictures[0].model === champion.name && $("version").value === champion.name && pictures[0].generation !== champion.generation) refresh();
  } catch (error) {
    show_frames(count, []);
    if (error.name === "AbortError") say("Stopped.");
    else say(error instanceof Problem ? error.message : "The storefront can't be reached. Please try again.", true);
    refresh();
  } finally {
    drawing = null;
    busy(false, count);
  }
}

function summary(pictures, flagged) {
  const [first] = pictures;
  const number = pictures.length === 1 ? "One picture" : pictures.length + " pictures";
  const back = flagged ? " The safety check kept back " + flagged + "." : "";
  return number + " by " + named(first.generation) + " of " + first.model + ", in " + first.seconds.toFixed(1) + "\u00a0s." + back;
}

function busy(is, count) {
  $("draw").setAttribute("aria-disabled", is);
  $("frames").setAttribute("aria-busy", is);
  $("stop").hidden = !is;
  if (!is) return;
  say("Drawing …");
  show_frames(count, [], true);
  if ($("table").getBoundingClientRect().top > innerHeight / 2) $("table").scrollIntoView();
}

async function wait() {
  if (!drawing) return;
  const mine = drawing, now = performance.now();
  if (now - mine.asked > 2500) {
    mine.asked = now;
    const answered = await fetch("offers", {cache: "no-store"}).then((each) => each.json()).catch(() => null);
    if (answered && drawing === mine) mine.seconds = Math.min(mine.seconds, (now - mine.start) / 1000 + answered.seconds);
  }
  if (drawing !== mine) return;
  const left = Math.ceil(mine.seconds - (now - mine.start) / 1000);
  if (mine.rank > 0) say("Many visitors are drawing. You are number " + (mine.rank + 1) + " in the line.");
  else if (left >= 2 && left < 3600) say("Others are drawing too. Yours comes in about " + (left > 10 ? Math.ceil(left / 5) * 5 : left) + " seconds.");
  else say("Drawing …");
}

function say(text, alert = false, by = "draw") {
  const status = $("status");
  status.dataset.by = by;
  status.classList.toggle("alert", alert);
  if (status.textContent !== text) status.textContent = text;
  if (alert) status.scrollIntoView({block: "nearest"});
}

// Pictures

function show_frames(count, pictures, is_busy = false) {
  $("frames").dataset.count = count;
  const size = ($("size").value || model()?.sizes[0] || "1x1").split("x");
  element.style.setProperty("--ratio", size[0] / size[1]);
  $("frames").replaceChildren(...Array.from({length: count}, (_, number) =>
    make("li", {className: "frame" + (pictures[number] ? "" : is_busy ? " empty busy" : " empty")},
      ...(pictures[number] ? framed(pictures[number], true) : [make("div", {className: "mat"}), make("p", {className: "about"}), make("div", {className: "acts"})]))));
}

function show_history() {
  $("visit-note").textContent = "The last " + MOST + " pictures, until you leave the page. They are kept in your browser alone.";
  $("history").replaceChildren(...history.map((picture) => make("li", {}, opener(picture))));
}

function framed(picture, opens) {
  const about = make("p", {className: "about quiet"},
    make("a", {href: "#why", textContent: capital(named(picture.generation)) + ": why?", onclick: (event) => ask_why(event, picture)}),
    make("span", {textContent: "Seed " + picture.seed}));
  return [opens ? opener(picture) : mat("div", picture), ...(opens ? [] : [make("p", {textContent: picture.prompt})]), about, acts(picture)];
}

function opener(picture) {
  const button = mat("button", picture);
  button.type = "button";
  button.setAttribute("aria-label", "Larger: " + picture.prompt + ", seed " + picture.seed);
  button.onclick = () => {
    const dialog = $("large");
    dialog.querySelector(".frame")?.remove();
    dialog.append(make("div", {className: "frame"}, ...framed(picture, false)));
    dialog.showModal();
  };
  return button;
}

function mat(tag, picture) {
  const small = picture.width <= 128;
  const image = make("img", {src: picture.file, alt: picture.prompt, width: picture.width, height: picture.height});
  const made = make(tag, {className: small ? "mat small" : "mat"}, image);
  made.style.setProperty("--ratio", picture.width / picture.height);
  return made;
}

const UP = "M7 11v9H4v-9zm0 0 4-8c1.7 0 2.6 1.200 2.300 3L12.600 9.500H18a2 2 0 0 1 2 2.400l-1.300 6.500A2 2 0 0 1 16.700 20H7";
const DOWN = "M5 4v11m-2 2h18";
const SAVE = "M12 4v11m-4.500-4.500L12 15l4.500-4.500M5 20h14";

function acts(picture) {
  const file = [picture.model, picture.generation ? "generation-" + picture.generation : "base", picture.seed].join("-") + "." + picture.kind;
  const save = make("a", {className: "button", href: picture.file, download: file, title: "Save the picture"}, icon(SAVE));
  save.setAttribute("aria-label", "Save the picture of seed " + picture.seed);
  return make("div", {className: "acts"}, voter(picture, true), voter(picture, false), save);
}

function voter(picture, liked) {
  const words = liked ? "I like it" : "I do not like it";
  const button = make("button", {type: "button", title: words, onclick: () => vote(picture, liked)}, icon(UP, !liked));
  button.setAttribute("aria-label", words + ", seed " + picture.seed);
  button.setAttribute("aria-pressed", votes.get(picture.id) === liked);
  button.dataset.id = picture.id;
  button.dataset.liked = liked;
  return button;
}

let voting = Promise.resolve();
function vote(picture, liked) {
  voting = voting.then(async () => {
    try {
      await call(VOTE, [picture.id, liked]);
      votes.set(picture.id, liked);
      for (const each of element.querySelectorAll("[data-id]"))
        if (each.dataset.id === picture.id) each.setAttribute("aria-pressed", each.dataset.liked === String(liked));
      say(liked ? "Thank you. You like it." : "Thank you. You do not like it.");
    } catch (error) {
      say(error instanceof Problem ? error.message : "The vote did not arrive. Please try again.", true);
    }
  });
}

function ask_why(event, picture) {
  event.preventDefault();
  $("large").close();
  const chosen = offers.models.find((each) => each.name === picture.model);
  if (chosen) show_why(chosen, picture.generation);
  $("why").dataset.chosen = "yes";
  $("why").scrollIntoView({behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
  $("why-title").focus({preventScroll: true});
}

function icon(path, turned = false) {
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawn.setAttribute("viewBox", "0 0 24 24");
  drawn.setAttribute("aria-hidden", "true");
  if (turned) drawn.style.transform = "rotate(180deg)";
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  drawn.append(line);
  return drawn;
}

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// What starts it all

$("ask").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); draw(); }
});
$("prompt").addEventListener("input", () => { touched = true; });
$("model").addEventListener("change", () => {
  if (offers.models.some((each) => each.examples.includes($("prompt").value))) touched = false;  // an example of another
  delete $("why").dataset.chosen;
  show_model();
});
$("stop").addEventListener("click", () => { drawing?.abort.abort(); $("draw").focus(); });
for (const radio of element.querySelectorAll("[name=count]"))
  radio.addEventListener("change", () => { if (!drawing) show_frames(Number(radio.value), []); });
$("size").addEventListener("change", () => { if (!drawing) show_frames(Number($("frames").dataset.count), []); });
$("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(wait, 400);
(async () => {
  show_frames(2, []);
  for (;;) {
    await refresh();
    await new Promise((done) => setTimeout(done, document.hidden ? 60000 : offers.problem ? 1500 : 30000));
  }
})();
