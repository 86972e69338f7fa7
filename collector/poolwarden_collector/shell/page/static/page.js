// Keeps the page as it is at the collector. Without this script a reload does the same.
"use strict";
(() => {
  const SILENT_MS = 25000, ANEW_MS = 60000, ASKED_MS = 15000;
  const main = document.getElementById("main"), link = document.getElementById("link"), news = document.getElementById("news");
  const events = document.body.dataset.events;
  let source = null, heard = performance.now(), made = performance.now(), fetching = false, again = false;
  let asking = false; // no stream is to be had: the page is asked for instead, now and then

  // ---- ages that go on, in the words of the collector
  const UNITS = [[86400000, "d"], [3600000, "h"], [60000, "min"]];
  const span = (ms) => {
    for (const [size, unit] of UNITS) if (ms >= 2 * size) return Math.floor(ms / size) + " " + unit;
    return ms < 10000 ? (ms / 1000).toFixed(1) + " s" : Math.floor(ms / 1000) + " s";
  };
  const tick = () => {
    const passed = performance.now() - made;
    for (const age of document.querySelectorAll(".since")) age.textContent = span(Number(age.dataset.ms) + passed);
    const silent = performance.now() - heard;
    const old = Boolean(events) && silent > SILENT_MS + (asking ? ASKED_MS : 0);
    if (old) link.textContent = "The collector has not been heard for " + span(silent) + ": what is shown is old.";
    if (link.hidden === old) link.hidden = !old;
  };

  // ---- what matters stands in the title as well, and is read out when it changes
  const dress = () => {
    const said = main.querySelector("[data-news]");
    const text = said ? said.dataset.news : "";
    if (!text || news.textContent === text) return;
    news.textContent = text;
    document.title = text + " - Poolwarden";
  };

  // ---- a new main part in the place of the old one; what has the focus or stands open stays so
  const fresh = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const address = new URL(location.href);
      address.searchParams.set("part", "main");
      const reply = await fetch(address, { credentials: "same-origin", cache: "no-store", redirect: "manual" });
      if (reply.status === 403 || reply.type === "opaqueredirect") { location.reload(); return; }
      const text = await reply.text();
      const open = new Set([...main.querySelectorAll("details[open][id]")].map((each) => each.id));
      const shut = new Set([...main.querySelectorAll("details:not([open])[id]")].map((each) => each.id));
      const focus = document.activeElement && document.activeElement.id;
      if (main.contains(document.activeElement) && ["INPUT", "SELECT"].includes(document.activeElement.tagName)) { again = true; return; }
      const place = [...main.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
      const held = new DOMParser().parseFromString(text, "text/html");
      main.replaceChildren(...held.body.childNodes);
      main.querySelectorAll("details[id]").forEach((each) => { if (open.has(each.id)) each.open = true; else if (shut.has(each.id)) each.open = false; });
      main.querySelectorAll(".scroll").forEach((each, number) => { each.scrollLeft = place[number] || 0; });
      if (focus && document.getElementById(focus)) document.getElementById(focus).focus({ preventScroll: true });
      made = heard = performance.now();
      dress(); scrub(); tick();
    } catch (error) {
      again = true; // the collector is away: the line above the page says so
    } finally {
      fetching = false;
    }
  };

  const listen = () => {
    if (source || document.hidden || !events) return;
    source = new EventSource(events);
    source.addEventListener("beat", () => { heard = performance.now(); asking = false; });
    source.addEventListener("state", () => { heard = performance.now(); fresh(); });
    source.addEventListener("gone", () => location.reload());
    // Refused for good (a browser tries again by itself where a connection is lost): too many pages are open.
    source.addEventListener("error", () => {
      if (!source || source.readyState !== EventSource.CLOSED) return;
      source = null; asking = true;
      setTimeout(listen, 30000 + Math.random() * 30000);
    });
  };
  // A tab that nobody looks at keeps no stream: a browser has six for a collector.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { if (source) source.close(); source = null; }
    else { heard = performance.now(); fresh(); listen(); }
  });

  // ---- a failover as it was after each entry
  const scrub = () => {
    const range = main.querySelector(".range");
    if (!range) return;
    const rows = [...main.querySelectorAll(".entries tr[data-seq]")], then = main.querySelector(".then");
    range.hidden = false;
    main.querySelectorAll(".scrub a").forEach((each) => { each.hidden = true; });
    const show = () => {
      const place = Number(range.value), upto = Number(rows[place].dataset.seq);
      rows.forEach((row) => row.classList.toggle("later", Number(row.dataset.seq) > upto));
      main.querySelectorAll(".mark").forEach((mark) => mark.classList.toggle("later", Number(mark.dataset.seq) > upto));
      const row = rows[place];
      const said = "T+" + (Number(row.dataset.ms) / 1000).toFixed(1) + " s " + row.querySelector(".kind").textContent + ": " + row.lastElementChild.textContent;
      then.textContent = said;
      range.setAttribute("aria-valuetext", said);
    };
    const at = Number(new URL(location.href).searchParams.get("at") || 0);
    if (at) range.value = String(Math.max(0, rows.filter((row) => Number(row.dataset.seq) <= at).length - 1));
    range.addEventListener("input", show);
    show();
  };

  setInterval(tick, 1000);
  setInterval(() => { if (!document.hidden && (again || performance.now() - made > (asking ? ASKED_MS : ANEW_MS))) { again = false; fresh(); } }, 2000 + Math.random() * 2000);
  dress(); scrub(); listen();
})();
