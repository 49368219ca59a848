// The conformance suite has no option for an API key: this adds it to every request, and changes nothing else of any.
import { subscribe } from "node:diagnostics_channel";

const authorization = `Bearer ${process.env.DUOVEC_API_KEY}`;
subscribe("undici:request:create", ({ request }) => request.addHeader("authorization", authorization)); // fetch, too
subscribe("http.client.request.created", ({ request }) => request.setHeader("authorization", authorization));
