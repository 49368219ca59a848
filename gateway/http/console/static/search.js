// Search: a question, filters, and hits that can be weighed anew, opened, judged, and followed.

import { ApiError, call } from "./api.js";
import { button, el, replace } from "./dom.js";
import { Filters, shareSlider } from "./filters.js";
import { hitCard, scoreAt } from "./hits.js";
import { bindKeys } from "./keyboard.js";
import { errorBox, toast } from "./notices.js";
import { openReader } from "./reader.js";
import { rename } from "./router.js";
import { listCodebases } from "./session.js";
import { summary } from "./search_summary.js";

/** Open the view. */
export async function openSearch(root, params, signal) {
  const codebases = await listCodebases(signal);
  if (!codebases.length) {
    replace(root, nothingYet());
    return {};
  }
  const search = new Search(codebases, signal);
  replace(root, search.element);
  search.update(params);
  return search;
}

class Search {
  constructor(codebases, signal) {
    this.signal = signal;
    this.cards = [];
    this.run = new AbortController();
    this.question = el("textarea.question", {
      rows: 1,
      "aria-label": "What to look for",
      placeholder: "What does the code do? Or a name, or a piece of code",
      spellcheck: "false",
      maxlength: 1_000_000,
      on: { input: () => this.grow(), keydown: (event) => this.onKey(event) },
    });
    this.isCode = el("input", { type: "checkbox", on: { change: () => this.question.value && this.submit() } });
    this.filters = new Filters(codebases, () => this.changed());
    this.blend = shareSlider({
      label: "Blend",
      low: "text",
      high: "code",
      style: "blend",
      onMove: () => this.weighAnew(),
      onChange: () => this.changed(),
    });
    this.words = shareSlider({
      label: "Rank by",
      low: "meaning",
      high: "words",
      style: "words",
      onMove: () => {
        this.hasWordShare = true;
        this.weighAnew();
      },
      onChange: () => this.changed(),
    });
    this.like = el("p.like", { hidden: true });
    this.state = el("div.state", { role: "status", "aria-live": "polite" });
    this.list = el("ol.hits");
    this.form = el(
      "form.ask-for",
      {
        role: "search",
        on: {
          submit: (event) => {
            event.preventDefault();
            this.submit();
          },
        },
      },
      el("div.question-row", {}, this.question, el("button.primary", { type: "submit" }, "Search")),
      el(
        "div.question-options",
        {},
        el("label.chip", {}, this.isCode, el("span", {}, "it is code")),
        el("span.soft.small", {}, "Enter searches, Shift+Enter makes a line. ", el("kbd", {}, "?"), " shows the keys."),
      ),
    );
    const narrow = el("details.filters-fold", { open: matchMedia("(min-width: 60rem)").matches },
      el("summary", {}, "Filters"), this.filters.element);
    this.element = el(
      "div.search",
      {},
      el("h1.hidden", {}, "Search"),
      this.form,
      el("aside.side", { "aria-label": "Weights and filters" }, el("div.card.weights", {}, this.blend.element, this.words.element), narrow),
      el("section.results", { "aria-label": "Hits" }, this.like, this.state, this.list),
    );
    bindKeys("Here", this.keys());
  }

  keys() {
    const onCard = (does) => () => this.focused() && does(this.focused());
    return [
      ["/", "To the question", () => this.question.select() ?? this.question.focus()],
      ["j", "Next hit", () => this.move(1)],
      ["k", "Hit before", () => this.move(-1)],
      ["Enter", "Open the hit", onCard((card) => card.open())],
      ["m", "More like the hit", onCard((card) => card.like())],
      ["u", "The hit is useful", onCard((card) => card.say("USEFUL"))],
      ["x", "The hit is not useful", onCard((card) => card.say("NOT_USEFUL"))],
      ["[", "More of the text encoder", () => this.blend.step(-1)],
      ["]", "More of the code encoder", () => this.blend.step(1)],
    ];
  }

  /** Take fields from an address, and search where it has a question. */
  update(params) {
    this.question.value = params.get("q") ?? "";
    this.grow();
    this.isCode.checked = params.get("as") === "code";
    this.likeId = /^\d+$/.test(params.get("like") ?? "") ? params.get("like") : "";
    this.filters.read(params);
    this.blend.value = shareOf(params.get("blend")) ?? 0.5;
    const words = shareOf(params.get("words"));
    this.hasWordShare = words !== null;
    this.words.value = words ?? (this.isCode.checked || this.likeId ? 0 : 0.5);
    if (this.question.value.trim() || this.likeId) this.search({ isLogged: true });
    else {
      this.show([]);
      replace(this.state, el("p.soft", {}, "Ask in words, by a name, or paste code and say that it is."));
      this.question.focus();
    }
  }

  address() {
    const params = new URLSearchParams();
    if (this.likeId) params.set("like", this.likeId);
    else if (this.question.value.trim()) params.set("q", this.question.value);
    if (this.isCode.checked && !this.likeId) params.set("as", "code");
    this.filters.write(params);
    if (this.blend.value !== 0.5) params.set("blend", this.blend.value.toFixed(2));
    if (this.hasWordShare && !this.likeId) params.set("words", this.words.value.toFixed(2));
    return params;
  }

  /** A question of one's own: a step of the history, and in the log. */
  submit() {
    if (!this.question.value.trim()) return;
    this.likeId = "";
    this.hasWordShare = this.hasWordShare && !this.isCode.checked;
    rename("search", this.address(), { isNew: true });
    this.search({ isLogged: true });
  }

  /** Another filter or weight of the same question: not logged before something is said of its hits. */
  changed() {
    rename("search", this.address());
    if (this.question.value.trim() || this.likeId) this.search({ isLogged: false });
  }

  request() {
    const request = { ...this.filters.request(), blend: this.blend.value, encoderSimilarities: true };
    if (this.likeId) return { ...request, likeChunkId: this.likeId };
    request[this.isCode.checked ? "code" : "query"] = this.question.value;
    if (this.hasWordShare) request.lexicalWeight = this.words.value;
    return request;
  }

  async search({ isLogged, extra = {} }) {
    this.run.abort();
    const run = (this.run = new AbortController());
    this.signal.addEventListener("abort", () => run.abort(), { once: true });
    const request = { ...this.request(), ...extra };
    this.element.setAttribute("aria-busy", "true");
    const begun = performance.now();
    try {
      const reply = await call("SearchService/Search", { ...request, unlogged: !isLogged }, run.signal);
      if (run.signal.aborted) return;
      this.asked = { request, searchId: reply.searchId, isLogged };
      if (!this.hasWordShare) this.words.value = reply.lexicalWeight;
      this.words.disabled = Boolean(this.likeId);
      this.show(reply.hits);
      replace(this.state, summary(reply, performance.now() - begun));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      this.show([]);
      replace(this.state, errorBox(error, { retry: () => this.search({ isLogged, extra }), actions: this.waysOut(error, isLogged) }));
    } finally {
      if (this.run === run) this.element.removeAttribute("aria-busy");
    }
  }

  /** What else could be asked for where this was refused. */
  waysOut(error, isLogged) {
    const ask = (extra) => () => this.search({ isLogged, extra });
    if (error.reason === "TEXT_TOO_LONG") return [button("Search with the beginning of it", ask({ truncate: true }))];
    if (error.reason === "TRITON_UNAVAILABLE" && !this.likeId) {
      return [button("Search by the encoder that is up", ask({ allowDegraded: true }))];
    }
    return [];
  }

  show(hits) {
    const chosen = this.focused()?.hit.chunkId;
    this.showLike();
    this.cards = hits.map((hit) =>
      hitCard(hit, {
        open: () => this.openHit(hit),
        like: () => this.moreLike(hit.chunkId),
        say: (one, signal) => this.say(one, signal),
      }),
    );
    this.cards.forEach((card, position) => card.place(position + 1, card.hit.score));
    replace(this.list, this.cards.map((card) => card.element));
    // Whoever goes by keys stays where the hit is now.
    this.cards.find((card) => card.hit.chunkId === chosen)?.element.focus({ preventScroll: true });
  }

  showLike() {
    this.like.hidden = !this.likeId;
    if (!this.likeId) return;
    replace(this.like, "More like chunk ", el("strong", {}, this.likeId), " ",
      button("Back", () => history.back(), { kind: "quiet" }));
  }

  /** The hits at hand at the weights of the moment; the service is asked once the hand lets go. */
  weighAnew() {
    const wordShare = this.likeId ? 0 : this.words.value;
    const scored = this.cards.map((card) => [card, scoreAt(card.hit, this.blend.value, wordShare)]);
    if (scored.some(([, value]) => value === null)) return;
    const chosen = this.focused();
    scored.sort(([, one], [, other]) => other - one);
    scored.forEach(([card, value], position) => {
      card.place(position + 1, value);
      this.list.append(card.element);
    });
    chosen?.element.focus({ preventScroll: true });
  }

  openHit(hit) {
    const like = button("More like this", () => {
      dialog.close();
      this.moreLike(hit.chunkId);
    });
    const dialog = openReader(hit.codebaseId, hit.chunkId, [like]);
  }

  moreLike(chunkId) {
    this.likeId = chunkId;
    rename("search", this.address(), { isNew: true });
    this.search({ isLogged: true });
    window.scrollTo(0, 0);
  }

  /** Record what somebody made of a hit. A search that was not logged is asked again, and logged, for that. */
  async say(hit, signal) {
    const asked = this.asked;
    try {
      if (!asked.isLogged) {
        const reply = await call("SearchService/Search", asked.request);
        Object.assign(asked, { searchId: reply.searchId, isLogged: true });
      }
      if (!asked.searchId) {
        toast("This service keeps no log of searches, so that nothing can be said of their hits.");
        return false;
      }
      const items = [{ chunkId: hit.chunkId, signal: `FEEDBACK_SIGNAL_${signal}` }];
      await call("SearchService/RecordFeedback", { searchId: asked.searchId, items });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(`Not recorded: ${error.message}`, "bad");
      return false;
    }
    if (signal !== "OPENED") toast(signal === "USEFUL" ? "Recorded as useful." : "Recorded as not useful.");
    return true;
  }

  focused() {
    return this.cards.find((card) => card.element.contains(document.activeElement)) ?? null;
  }

  move(step) {
    const shown = [...this.list.children];
    const at = shown.findIndex((element) => element.contains(document.activeElement));
    const next = shown[at < 0 ? (step > 0 ? 0 : shown.length - 1) : at + step];
    if (!next) return;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.submit();
  }

  /** As high as the question is, up to what the style allows. */
  grow() {
    const { style } = this.question;
    style.height = "auto";
    style.height = `${this.question.scrollHeight + 2}px`;
  }
}

function shareOf(text) {
  const share = Number(text);
  return text === null || text === "" || !(share >= 0 && share <= 1) ? null : share;
}

function nothingYet() {
  return el(
    "section.card.empty",
    {},
    el("h1", {}, "Nothing to search yet"),
    el("p", {}, "You see no codebase. Index a folder, and it is yours:"),
    el("pre", {}, "duovec index path/to/code --codebase mine"),
    el("p", {}, "Or let the owner of another one grant you a role on it:"),
    el("pre", {}, "duovec grant add CODEBASE YOU read"),
  );
}
