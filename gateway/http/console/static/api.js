// Calls of the gateway's services, with the key that this tab holds.

const KEY = "duovec-api-key";
const BASE = new URL("../", import.meta.url);
let heldKey = null;

/** A call that failed, in the server's words. */
export class ApiError extends Error {
  /**
   * @param {string} message What the server said.
   * @param {{status?: number, reason?: string, param?: string, requestId?: string, retryAfterS?: number}} [facts]
   */
  constructor(message, { status = 0, reason = "", param = null, requestId = "", retryAfterS = 0 } = {}) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.param = param;
    this.requestId = requestId;
    this.retryAfterS = retryAfterS;
  }

  get isAboutTheKey() {
    return this.status === 401;
  }
}

/** The key of this tab; "" where there is none. */
export function apiKey() {
  if (heldKey === null) {
    try {
      heldKey = sessionStorage.getItem(KEY) ?? "";
    } catch {
      heldKey = "";
    }
  }
  return heldKey;
}

/** Hold a key until the tab is closed; "" forgets it. */
export function setApiKey(key) {
  heldKey = key;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Storage may be forbidden; then the key lasts until the page is loaded again.
  }
}

/**
 * Call a method with one reply.
 * @param {string} method Such as "SearchService/Search".
 * @param {object} [request] The request message in protobuf's JSON.
 * @param {AbortSignal} [signal]
 * @returns {Promise<object>} The reply; 64-bit numbers are strings in it.
 * @throws {ApiError}
 */
export async function call(method, request = {}, signal = undefined) {
  let response;
  try {
    response = await fetch(new URL(`duovec.v1.${method}`, BASE), {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey()}`, "content-type": "application/json" },
      body: JSON.stringify(request),
      cache: "no-store",
      credentials: "omit",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(`The gateway at ${BASE.host} does not answer.`, { reason: "UNREACHABLE" });
  }
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Something between here and the gateway has answered.
  }
  if (response.ok && body !== null) return body;
  const facts = {
    status: response.status,
    requestId: response.headers.get("x-request-id") ?? "",
    retryAfterS: Number(response.headers.get("retry-after-ms") ?? 0) / 1000,
  };
  const said = body?.error;
  if (!said) throw new ApiError(`The reply (status ${response.status}) is none of the gateway's.`, facts);
  const error = new ApiError(said.message, { ...facts, reason: said.reason ?? "", param: said.param ?? null });
  // Whoever waits for the reply says it, too; but the session is over wherever that is.
  if (error.isAboutTheKey) dispatchEvent(new CustomEvent("duovec-key-refused", { detail: error }));
  throw error;
}

/** All items of a method that gives pages. */
export async function callAll(method, request, field, signal = undefined) {
  const items = [];
  let pageToken = "";
  do {
    const reply = await call(method, { ...request, pageSize: 1000, pageToken }, signal);
    items.push(...(reply[field] ?? []));
    pageToken = reply.nextPageToken;
  } while (pageToken);
  return items;
}
