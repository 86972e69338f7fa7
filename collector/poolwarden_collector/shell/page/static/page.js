// Keeps the page as it is at the collector. Without this script a reload does the same.
"use strict";
(() => {
  const SILENT_MS = 25000, ANEW_MS = 60000, HASTY_MS = 10000, ASKED_MS = 15000, TAKES_MS = 20000, PLACES = 4;
  const main = document.getElementById("main"), link = document.getElementById("link"), news = document.getElementById("news");
  const { events, page } = document.body.dataset;
  let source = null, heard = performance.now(), made = performance.now(), fetching = false, again = false;
  let asking = false; // no stream is to be had: the page is asked for instead, now and then
  let owed = 0; // since when the collector shows something else than what is here; 0: it does not
  let failed = ""; // why the page could not be had anew, the last time

  // ---- ages that go on, in the words of the collector
  const UNITS = [[86400000, "d"], [3600000, "h"], [60000, "min"]];
  const span = (ms) => {
    for (const [size, unit] of UNITS) if (ms >= 2 * size) return Math.floor(ms / size) + " " + unit;
    return ms < 10000 ? (ms / 1000).toFixed(1) + " s" : Math.floor(ms / 1000) + " s";
  };
  const tick = () => {
    const passed = performance.now() - made;
    for (const age of document.querySelectorAll(".since")) age.textContent = span(Number(age.dataset.ms) + passed);
    const now = performance.now(), silent = now - heard, late = owed ? now - owed : 0;
    let text = "";
    if (events && silent > SILENT_MS + (asking ? ASKED_MS : 0)) text = "The collector has not been heard for " + span(silent) + ": what is shown is old.";
    else if (failed) text = failed + ": what is shown is old. It is tried again.";
    else if (late > SILENT_MS) text = "Something has changed " + span(late) + " ago and could not be had yet: what is shown is old.";
    if (link.textContent !== text) link.textContent = text;
    link.hidden = !text;
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
  const twin = (active) => { // finds in the new part what had the focus in the old one
    if (!active || !main.contains(active)) return () => null;
    if (active.id) return () => document.getElementById(active.id);
    if (active.tagName === "SUMMARY") return () => main.querySelector("#" + CSS.escape(active.parentNode.id) + " > summary");
    const like = active.tagName === "A" ? 'a[href="' + CSS.escape(active.getAttribute("href")) + '"]' : active.tagName + '[aria-label="' + CSS.escape(active.getAttribute("aria-label") || "") + '"]';
    const number = [...main.querySelectorAll(like)].indexOf(active);
    return () => main.querySelectorAll(like)[number] || null;
  };
  // What is being typed into, or moved, stays where it is: everything around it is put in anew.
  const around = (old, anew, kept, its) => {
    const here = [...old.childNodes].find((each) => each.contains(kept)), there = [...anew.childNodes].find((each) => each.contains(its));
    const before = [], after = [];
    let place = before;
    for (const each of [...anew.childNodes]) { if (each === there) place = after; else place.push(each); }
    for (const each of [...old.childNodes]) if (each !== here) each.remove();
    here.before(...before);
    here.after(...after);
    if (here !== kept && there !== its) around(here, there, kept, its);
  };
  const put = (anew) => {
    const open = new Set([...main.querySelectorAll("details[open][id]")].map((each) => each.id));
    const shut = new Set([...main.querySelectorAll("details:not([open])[id]")].map((each) => each.id));
    const place = [...main.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    const active = document.activeElement, focus = twin(active);
    const like = main.contains(active) && active.matches("input, select") ? [".filters", ".scrub"].find((each) => active.closest(each)) : null;
    const its = like ? anew.querySelector(like) : null;
    if (its) around(main, anew, active.closest(like), its);
    else {
      main.replaceChildren(...anew.childNodes);
      const found = focus();
      if (found) found.focus({ preventScroll: true });
    }
    main.querySelectorAll("details[id]").forEach((each) => { if (open.has(each.id)) each.open = true; else if (shut.has(each.id)) each.open = false; });
    main.querySelectorAll(".scroll").forEach((each, number) => { each.scrollLeft = place[number] || 0; });
  };
  const fresh = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const address = new URL(location.href), began = performance.now();
      address.searchParams.set("part", "main");
      const reply = await fetch(address, { credentials: "same-origin", cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(TAKES_MS) });
      if (reply.status === 403 || reply.type === "opaqueredirect") { location.reload(); return; }
      if (reply.status >= 500) { failed = "The collector could not show this anew (" + reply.status + ")"; again = true; return; }
      if (page !== (reply.headers.get("X-Page") || page)) { location.reload(); return; }
      const text = await reply.text();
      put(new DOMParser().parseFromString(text, "text/html").body);
      made = heard = performance.now();
      if (owed < began) owed = 0;
      failed = "";
      dress(); scrub(); tick();
    } catch (error) {
      again = true; // the collector is away: the line above the page says so
    } finally {
      fetching = false;
    }
  };

  // ---- a browser has six connections for one collector, in all its windows: some of them listen, the others ask
  const place = async () => {
    for (let number = 0; navigator.locks && number < PLACES; number += 1) {
      const leave = await new Promise((done) => {
        navigator.locks.request("poolwarden-stream-" + number, { ifAvailable: true }, (lock) => {
          if (lock) return new Promise(done);
          done(null);
          return null;
        }).catch(() => done(null));
      });
      if (leave) return leave;
    }
    return navigator.locks ? null : () => {};
  };
  let leave = null, opening = false;
  const hush = () => { if (source) source.close(); source = null; if (leave) leave(); leave = null; };
  const later = () => { asking = true; setTimeout(listen, 30000 + Math.random() * 30000); };
  const listen = async () => {
    if (source || opening || document.hidden || !events) return;
    opening = true;
    leave = await place();
    opening = false;
    if (!leave) { later(); return; }
    if (document.hidden) { hush(); return; }
    source = new EventSource(events);
    source.addEventListener("beat", () => { heard = performance.now(); asking = false; });
    source.addEventListener("state", () => { heard = performance.now(); owed = owed || heard; fresh(); });
    source.addEventListener("gone", () => location.reload());
    // Refused for good (a browser tries again by itself where a connection is lost): too many pages are open.
    source.addEventListener("error", () => {
      if (!source || source.readyState !== EventSource.CLOSED) return;
      hush(); later();
    });
  };
  // A tab that nobody looks at keeps no stream.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hush();
    else { heard = performance.now(); fresh(); listen(); }
  });

  // ---- a failover as it was after each entry
  let chosen = Number(new URL(location.href).searchParams.get("at") || 0); // the last entry that is shown; 0: all are
  const scrub = () => {
    const range = main.querySelector(".range");
    if (!range) return;
    const rows = [...main.querySelectorAll(".entries tr[data-seq]")], number = (each) => Number(each.dataset.seq);
    range.hidden = false;
    range.max = String(rows.length - 1);
    range.value = String(chosen ? Math.max(0, rows.filter((row) => number(row) <= chosen).length - 1) : rows.length - 1);
    main.querySelectorAll(".scrub a").forEach((each) => { each.hidden = true; });
    const row = rows[Number(range.value)], upto = number(row);
    rows.forEach((each) => each.classList.toggle("later", number(each) > upto));
    main.querySelectorAll(".mark").forEach((each) => each.classList.toggle("later", number(each) > upto));
    const said = "after " + (Number(row.dataset.ms) / 1000).toFixed(1) + " s, " + row.querySelector(".kind").textContent + ": " + row.lastElementChild.textContent;
    main.querySelector(".then").textContent = said;
    range.setAttribute("aria-valuetext", said);
  };
  main.addEventListener("input", (event) => {
    const range = event.target;
    if (!range.matches(".range")) return;
    const rows = main.querySelectorAll(".entries tr[data-seq]"), at = Number(range.value);
    chosen = at < rows.length - 1 ? Number(rows[at].dataset.seq) : 0;
    scrub();
  });

  const here = new URL(location.href);
  if (here.searchParams.has("again")) { here.searchParams.delete("again"); history.replaceState(null, "", here); }
  setInterval(tick, 1000);
  // Ages in sentences are no change that the collector tells of: where something goes on they are had anew more often.
  const lasts = () => main.querySelector("section.now.critical") ? HASTY_MS : asking ? ASKED_MS : ANEW_MS;
  setInterval(() => { if (!document.hidden && (again || performance.now() - made > lasts())) { again = false; fresh(); } }, 2000 + Math.random() * 2000);
  dress(); scrub(); listen();
})();
