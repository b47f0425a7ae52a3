// The world page. It reads /overview whenever /stream says that something changed, and draws the difference.
// Everything that comes from the world is set as text or as an encoded part of a path, never as markup.

const $ = (id) => document.getElementById(id);
const ownPhones = ["phone-a", "phone-b"];
const palettes = 6; // of badge colours in world.css
const operations = {
  origo: ["token", "search", "read", "reserve", "cancel", "revoke", "photo", "stock", "feed"],
  ses: ["send"],
  dynamodb: ["put", "transact"],
  events: ["publish"],
};

let drawn = false; // from the second drawing on, what is new moves in
let clock = { base: Date.now(), at: Date.now() };

// h makes an element. Properties named on… are listeners, data is the dataset, the rest are attributes; null is nothing.
function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(el.dataset, value);
    else if (value === true) el.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) el.setAttribute(name, value);
  }
  el.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return el;
}

function icon(className, path) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const p = document.createElementNS(ns, "path");
  p.setAttribute("d", path);
  svg.append(p);
  return svg;
}

// draw makes parent's children those of the items: one that is the same stays untouched, so that focus, scrolling and
// opened details survive.
function draw(parent, items, render) {
  const old = new Map([...parent.children].map((el) => [el.dataset.key, el]));
  items.forEach((item, i) => {
    const key = String(item.key),
      content = JSON.stringify(item);
    let el = old.get(key);
    if (!el || el.content !== content) {
      const fresh = render(item);
      fresh.dataset.key = key;
      fresh.content = content;
      if (drawn) fresh.classList.add(el ? "changed" : "new");
      if (el) {
        const focused = el.contains(document.activeElement);
        el.replaceWith(fresh);
        if (focused) (fresh.querySelector("button") ?? parent.closest("section")).focus();
      }
      el = fresh;
    }
    old.delete(key);
    if (parent.children[i] !== el) parent.insertBefore(el, parent.children[i] ?? null);
  });
  old.forEach((el) => el.remove());
}

// ---- talking to the runner

async function send(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(refusals[answer.status] ?? `the answer was ${answer.status}`);
}

const refusals = {
  404: "it is not known",
  409: "it has been redeemed already",
  410: "the invitation is no longer good",
};

let toastTimer;
function toast(text, bad) {
  const el = $("toast");
  el.textContent = text;
  el.classList.toggle("bad", Boolean(bad));
  el.classList.add("show");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => el.classList.remove("show"), 4500);
}

// act does something that a button asked for, with the buttons around it out of reach meanwhile. If that redraws them,
// the focus goes to what is there instead.
async function act(button, done, work) {
  const buttons = [...(button.closest(".buttons") ?? button.parentElement).querySelectorAll("button")];
  const section = button.closest("section"),
    key = button.closest("[data-key]")?.dataset.key;
  buttons.forEach((b) => (b.disabled = true));
  button.setAttribute("aria-busy", "true");
  try {
    await work();
    toast(done);
  } catch (err) {
    toast(`${button.textContent}: ${err.message}`, true);
  } finally {
    buttons.forEach((b) => (b.disabled = false));
    button.removeAttribute("aria-busy");
    await refresh();
    if (button.isConnected) button.focus();
    else section?.querySelector(`[data-key="${CSS.escape(key)}"] button`)?.focus();
  }
}

let reading = null,
  readAgain = false;
function refresh() {
  readAgain = true;
  reading ??= read().finally(() => {
    reading = null;
  });
  return reading;
}

async function read() {
  try {
    while (readAgain) {
      readAgain = false;
      const answer = await fetch("/overview", { cache: "no-store" });
      if (answer.ok) show(await answer.json());
    }
  } catch {
    // the runner is gone; the stream says so, and reads again when it is back
  }
}

function listen() {
  const stream = new EventSource("/stream");
  const live = (on) => {
    $("live").textContent = on ? "live" : "waiting for the runner";
    $("live").classList.toggle("on", on);
  };
  stream.onopen = () => {
    live(true);
    refresh();
  };
  stream.addEventListener("change", refresh);
  stream.onmessage = refresh;
  stream.onerror = () => {
    live(false);
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

// ---- drawing

function show(world) {
  const provider = world.provider ?? { users: [], partNumbers: [] };
  const palette = (mobileId) => {
    const i = provider.partNumbers.findIndex((p) => mobileId.startsWith(p.partNumber + ":"));
    return Math.max(i, 0) % palettes;
  };
  showClock(world.clock);
  showMails(world.mails ?? [], world.mailCount);
  showPhones(world.phones ?? [], palette);
  showPools(provider);
  showEvents(world.events ?? []);
  showFaults(world.faults ?? []);
  const dead = world.deadletters ?? 0;
  $("deadletters").classList.toggle("some", dead > 0);
  $("deadletters").replaceChildren(h("b", null, String(dead)), dead === 1 ? " dead letter" : " dead letters");
  drawn = true;
}

function showClock(c) {
  if (!c) return;
  clock = { base: Date.parse(c.now), at: Date.now() };
  const offset = readable(c.offset ?? "");
  $("offset").hidden = offset === "";
  $("offset").textContent = `${offset} ahead`;
  tick();
}

// readable makes "192h30m0s" of Go "8 d 30 min".
function readable(duration) {
  const part = (unit) => Number(duration.match(new RegExp(`(\\d+)${unit}(?![a-z])`))?.[1] ?? 0);
  const hours = part("h"),
    minutes = part("m");
  const parts = [
    [Math.floor(hours / 24), "d"],
    [hours % 24, "h"],
    [minutes, "min"],
  ];
  return parts
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(" ");
}

const day = new Intl.DateTimeFormat("en-GB", {
  weekday: "long",
  day: "numeric",
  month: "long",
  year: "numeric",
  timeZone: "UTC",
});

function tick() {
  const now = new Date(clock.base + Date.now() - clock.at);
  if (Number.isNaN(now.getTime())) return;
  $("time").textContent = now.toISOString().slice(11, 19);
  $("time").setAttribute("datetime", now.toISOString());
  $("date").textContent = `${day.format(now)}, UTC`;
  const minutes = now.getUTCHours() * 60 + now.getUTCMinutes();
  $("hour").setAttribute("transform", `rotate(${minutes / 2})`);
  $("minute").setAttribute("transform", `rotate(${minutes * 6})`);
}

function showMails(mails, count) {
  $("mail-count").textContent = count || mails.length || "";
  $("mails-empty").hidden = mails.length > 0;
  const items = mails.map(({ id, to, subject, text, code, invitation }) => ({
    key: id,
    to: [to].flat().join(", "),
    subject: subject || "(no subject)",
    code,
    preview: (text ?? "").replace(/\s+/g, " ").slice(0, 140),
    status: invitation?.status ?? "",
    mobileId: invitation?.mobileId ?? "",
  }));
  draw($("mails"), items, (mail) => {
    const lost = mail.status === "PENDING" && !mail.mobileId;
    const open = mail.code && (mail.status === "" || mail.status === "PENDING") && !lost;
    return h(
      "li",
      { data: { mid: mail.mobileId }, class: open ? "open" : "over" },
      h("button", { type: "button", class: "subject", onclick: () => openLetter(mail) }, mail.subject),
      h("p", { class: "to" }, "to ", mail.to),
      h("p", { class: "preview" }, mail.preview),
      mail.code
        ? h(
            "p",
            { class: "facts" },
            h("code", { class: "code" }, mail.code),
            mail.status
              ? h(
                  "span",
                  { class: `pill ${lost ? "lost" : mail.status.toLowerCase()}` },
                  lost ? "lost its mobile ID" : mail.status.toLowerCase(),
                )
              : null,
            mail.mobileId ? h("span", { class: "mid" }, mail.mobileId) : null,
          )
        : null,
      open
        ? h(
            "div",
            { class: "buttons", role: "group", "aria-label": "What becomes of the invitation" },
            ownPhones.map((phone) =>
              choice(
                `Redeem on ${nameOf(phone)}`,
                "",
                `Redeemed on ${nameOf(phone)}`,
                `/phones/${phone}/redeem`,
                mail.code,
              ),
            ),
            choice("Decline", "quiet", "Declined by the holder", `/phones/${ownPhones[0]}/decline`, mail.code),
            choice("Cancel as administrator", "link", "Cancelled at the provider", "/provider/cancel", mail.code),
          )
        : null,
    );
  });
}

function choice(label, className, done, path, code) {
  return h(
    "button",
    {
      type: "button",
      class: className,
      onclick: (e) => act(e.currentTarget, done, () => send("POST", path, { code })),
    },
    label,
  );
}

const nameOf = (deviceId) => deviceId.replace(/^phone-([a-z])$/, (_, letter) => `phone ${letter.toUpperCase()}`);

function showPhones(phones, palette) {
  const byId = new Map([
    ...ownPhones.map((id) => [id, { deviceId: id, badges: [] }]),
    ...phones.map((p) => [p.deviceId, p]),
  ]);
  const items = [...byId.values()].map((p) => ({
    key: p.deviceId,
    badges: (p.badges ?? []).map((b) => ({ ...b, key: b.mobileId, palette: palette(b.mobileId) })),
  }));
  const list = $("phone-list");
  // A phone is drawn once; only its badges come and go.
  draw(
    list,
    items.map(({ key }) => ({ key })),
    ({ key }) => {
      const name = nameOf(key);
      return h(
        "article",
        { class: "phone", "aria-label": name },
        h("div", { class: "speaker", "aria-hidden": "true" }),
        h("h3", null, name.charAt(0).toUpperCase() + name.slice(1)),
        h("div", { class: "badges" }),
        h("p", { class: "empty" }, "No badge on this phone."),
      );
    },
  );
  for (const item of items) {
    const phone = [...list.children].find((el) => el.dataset.key === item.key);
    phone.querySelector(".empty").hidden = item.badges.length > 0;
    draw(phone.querySelector(".badges"), item.badges, badge);
  }
}

const waves = "M6 9.5a4 4 0 0 1 0 5M9.5 7a8 8 0 0 1 0 10M13 4.5a12 12 0 0 1 0 15";
const person = "M12 12.2a4.4 4.4 0 1 0 0-8.8 4.4 4.4 0 0 0 0 8.8zM3.5 22a8.5 8.5 0 0 1 17 0z";

function badge(b) {
  const initials = b.holderName
    .split(/\s+/)
    .map((w) => [...w][0] ?? "")
    .slice(0, 2)
    .join("")
    .toUpperCase();
  const cut = b.mobileId.lastIndexOf(":");
  return h(
    "div",
    {
      class: `badge p${b.palette}`,
      data: { mid: b.mobileId },
      tabindex: "0",
      role: "group",
      "aria-label": `Badge of ${b.holderName}`,
    },
    h("div", { class: "top" }, h("span", { class: "profile" }, b.profile), icon("waves", waves)),
    h(
      "div",
      { class: "who" },
      h(
        "span",
        { class: b.hasPicture ? "portrait" : "portrait none" },
        b.hasPicture ? icon("person", person) : h("span", { "aria-hidden": "true" }, initials),
      ),
      h("span", null, h("strong", null, b.holderName), h("small", null, b.hasPicture ? "Picture shown" : "No picture")),
    ),
    h(
      "div",
      { class: "bottom" },
      h("span", { class: "part-number" }, b.mobileId.slice(0, cut)),
      h("b", { class: "number" }, b.mobileId.slice(cut + 1)),
      h("span", { class: "activated" }, "Activated"),
    ),
  );
}

const bounds = new Map(); // of the card numbers seen of a part number

function showPools(provider) {
  const owners = new Map();
  for (const u of provider.users) {
    for (const i of u.invitations)
      if (i.mobileId) owners.set(i.mobileId, `${u.externalId || u.email}, invitation ${i.status.toLowerCase()}`);
  }
  const pools = $("pools");
  const parts = provider.partNumbers.map((p, i) => ({ key: p.partNumber, palette: i % palettes }));
  draw(pools, parts, (p) =>
    h(
      "div",
      { class: "part" },
      h("h3", null, h("span", { class: `swatch p${p.palette}`, "aria-hidden": "true" }), p.key),
      h("p", { class: "sum" }),
      h("div", { class: "cells" }),
    ),
  );
  provider.partNumbers.forEach((p, i) => {
    const state = new Map();
    for (const name of ["available", "reserved", "issued"])
      for (const id of p[name]) state.set(Number(id.slice(id.lastIndexOf(":") + 1)), name);
    const numbers = [...state.keys()];
    const cells = [];
    let spent = 0;
    // A number that is in no list, between the lowest and the highest seen, has been on a phone and never comes back.
    const seen = bounds.get(p.partNumber) ?? [];
    const [first, last] = [Math.min(...numbers, ...seen), Math.max(...numbers, ...seen)];
    if (first <= last) bounds.set(p.partNumber, [first, last]);
    for (let n = first; n <= last; n++) {
      const mobileId = `${p.partNumber}:${n}`;
      if (!state.has(n)) spent++;
      cells.push({ key: n, mobileId, state: state.get(n) ?? "spent", owner: owners.get(mobileId) ?? "" });
    }
    const el = pools.children[i];
    el.querySelector(".sum").textContent =
      `${p.available.length} available, ${p.reserved.length} reserved, ${p.issued.length} on phones, ${spent} spent`;
    draw(el.querySelector(".cells"), cells, cell);
  });
}

function cell(c) {
  const title = `${c.mobileId}: ${c.state}${c.owner ? `, ${c.owner}` : ""}`;
  const props = { class: `cell ${c.state}`, title, data: { mid: c.mobileId } };
  if (c.state === "available" || c.state === "spent")
    return h("span", { ...props, "aria-hidden": "true" }, String(c.key));
  return h("button", { ...props, type: "button", "aria-label": title, onclick: () => openAdmin(c) }, String(c.key));
}

function showEvents(events) {
  $("event-count").textContent = events.length || "";
  $("events").hidden = events.length === 0;
  $("events-empty").hidden = events.length > 0;
  const items = events
    .slice(0, 150)
    .map((e) => ({
      key: e.id,
      type: e["detail-type"] ?? "",
      source: e.source ?? "",
      time: e.time ?? "",
      detail: e.detail ?? {},
    }));
  draw($("events"), items, (e) =>
    h(
      "li",
      { class: tone(e) },
      h("time", { datetime: e.time, title: e.time }, e.time.slice(11, 19)),
      h(
        "details",
        null,
        h(
          "summary",
          null,
          h("strong", null, e.type),
          h(
            "span",
            { class: "chips" },
            chips(e.detail).map((c) => h("span", null, c)),
          ),
        ),
        h("p", { class: "source" }, e.source),
        h("pre", { tabindex: "0" }, JSON.stringify(e.detail, null, 2)),
      ),
    ),
  );
}

function tone(e) {
  if (/anomaly|failed/i.test(e.type)) return "bad";
  if (/activated|accepted/i.test(e.type)) return "good";
  if (/declined|expired|reassigned|revoked|lost|stolen/i.test(e.type)) return "ending";
  return e.source === "mobilecred" ? "own" : "";
}

// chips are the few words of an event worth seeing without opening it.
function chips(detail) {
  if (Array.isArray(detail.facts))
    return detail.facts.slice(0, 6).map((f) => [f.what, f.status].filter(Boolean).join(" ").replaceAll("_", " "));
  const words = ["holderId", "mobileId", "reason", "eventType"].map((k) => detail[k] ?? detail.credential?.[k]);
  return words.filter((w) => typeof w === "string" && w !== "");
}

function showFaults(faults) {
  $("faults-empty").hidden = faults.length > 0;
  draw(
    $("faults"),
    faults.map((f, i) => ({ ...f, key: i })),
    (f) =>
      h(
        "li",
        null,
        h("b", null, `${f.count ?? 1}×`),
        ` ${f.service} ${f.op || "any"}: ${f.kind}${f.when ? `, ${f.when}` : ""}${f.holdMs ? `, held ${f.holdMs} ms` : ""}`,
      ),
  );
}

// ---- dialogs, forms, buttons

function openLetter(mail) {
  $("letter-subject").textContent = mail.subject;
  $("letter-to").textContent = `to ${mail.to}`;
  $("letter-body").src = `/mail/${encodeURIComponent(mail.key)}`;
  $("letter").showModal();
}

let administered = "";
function openAdmin(c) {
  administered = c.mobileId;
  $("admin-id").textContent = c.mobileId;
  $("admin-owner").textContent = `${c.state === "issued" ? "On a phone" : "Reserved"}${c.owner ? `: ${c.owner}` : ""}`;
  $("admin").showModal();
}

$("letter").addEventListener("close", () => $("letter-body").removeAttribute("src"));
for (const dialog of [$("letter"), $("admin")]) {
  dialog.addEventListener("click", (e) => {
    if (e.target === dialog) dialog.close();
  }); // the backdrop
}

$("reassign-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const externalId = new FormData(e.currentTarget).get("externalId");
  await act(e.submitter, `${administered} now belongs to ${externalId}`, () =>
    send("POST", "/provider/reassign", { mobileId: administered, externalId }),
  );
  $("admin").close();
});
$("revoke").addEventListener("click", async (e) => {
  await act(e.currentTarget, `${administered} is revoked`, () =>
    send("POST", "/provider/revoke", { mobileId: administered }),
  );
  $("admin").close();
});

for (const button of document.querySelectorAll("[data-advance]")) {
  button.addEventListener("click", () =>
    act(button, `The clock is ${button.textContent.slice(1)} further`, () =>
      send("POST", "/clock", { advance: button.dataset.advance }),
    ),
  );
}
$("settle").addEventListener("click", (e) =>
  act(e.currentTarget, "Everything has come to rest", () => send("POST", "/settle")),
);

function fillOperations() {
  $("fault-op").replaceChildren(
    h("option", { value: "" }, "any"),
    ...operations[$("fault-service").value].map((op) => h("option", null, op)),
  );
}
$("fault-service").replaceChildren(...Object.keys(operations).map((s) => h("option", null, s)));
$("fault-service").addEventListener("change", fillOperations);
fillOperations();

$("fault-form").addEventListener("submit", (e) => {
  e.preventDefault();
  const fault = Object.fromEntries(new FormData(e.currentTarget));
  if (fault.op === "") delete fault.op;
  act(e.submitter, "The fault is planned", () =>
    send("POST", "/faults", { ...fault, count: Number(fault.count), holdMs: Number(fault.holdMs) }),
  );
});
$("clear-faults").addEventListener("click", (e) =>
  act(e.currentTarget, "Fair weather again", () => send("DELETE", "/faults")),
);

// All that shows the same mobile ID lights up together.
function light(e) {
  const mid = e.target.closest?.("[data-mid]")?.dataset.mid;
  for (const el of document.querySelectorAll(".lit")) el.classList.remove("lit");
  if (mid) for (const el of document.querySelectorAll("[data-mid]")) el.classList.toggle("lit", el.dataset.mid === mid);
}
document.addEventListener("mouseover", light);
document.addEventListener("focusin", light);

setInterval(tick, 1000);
listen();
