// The page reads well without this. With it, each new state that the server sends
// is laid over the page in place, so that focus and place stay, and a button
// answers without a reload.
"use strict";
(() => {
  const link = document.getElementById("link");
  const linkText = document.getElementById("link-text");
  const said = document.getElementById("said");

  const tell = (state, text) => {
    link.dataset.state = state;
    linkText.textContent = text;
  };

  const say = (text, bad) => {
    said.classList.toggle("bad", bad);
    said.textContent = text;
  };

  // lay makes the element old look like the element fresh, and keeps whatever is
  // the same.
  const lay = (old, fresh) => {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const named = new Map();
    for (const child of old.children) if (child.id) named.set(child.id, child);
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      let kept = null;
      if (next.id) kept = named.get(next.id) ?? null;
      else if (at && !at.id && at.nodeName === next.nodeName) kept = at;
      if (!kept) {
        old.insertBefore(next, at);
        continue;
      }
      if (kept === at) at = at.nextSibling;
      else old.insertBefore(kept, at);
      if (kept.nodeType === Node.ELEMENT_NODE) lay(kept, next);
      else if (kept.data !== next.data) kept.data = next.data;
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const show = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("live");
    if (!fresh) return;
    document.title = `${fresh.dataset.title} · Ledgerline`;
    document.getElementById("icon").href = `/status/icon-${fresh.dataset.tone}.svg`;
    lay(document.getElementById("live"), fresh);
  };

  let source, again;
  const follow = () => {
    clearTimeout(again);
    source = new EventSource("/status/live");
    source.onmessage = (event) => {
      show(event.data);
      tell("live", "Live");
    };
    source.onerror = () => {
      tell("lost", "Connection lost, trying again");
      // The browser comes again by itself, but not after an answer that is no
      // stream, such as one that says that too many are open.
      if (source.readyState === EventSource.CLOSED) again = setTimeout(follow, 10000);
    };
  };
  follow();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && follow());

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.closest(".acts")) return;
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { Accept: "text/plain" } });
      if (answer.status === 401) {
        location.assign("/status/sign-in");
        return;
      }
      say((await answer.text()).trim(), !answer.ok);
    } catch {
      say("No answer: the program cannot be reached. Nothing is known of what was asked for.", true);
    } finally {
      button.disabled = false;
    }
  });
})();
