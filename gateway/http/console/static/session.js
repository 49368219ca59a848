// Who is signed in, and what the page knows of the service's codebases.

import { call, callAll } from "./api.js";

let principal = null;

/** Get who the key of this tab belongs to. */
export async function signIn() {
  principal = (await call("PrincipalService/GetPrincipal")).principal;
  return principal;
}

/** Forget it. */
export function signedOut() {
  principal = null;
}

/** The signed-in principal: `principalId`, `displayName`, `admin`. */
export function me() {
  return principal;
}

/** Codebases that one may see, by id. */
export function listCodebases(signal) {
  return callAll("CodebaseService/ListCodebases", {}, "codebases", signal);
}
