// What README.md's snippet leaves out: vectors as raw bytes, a stream in both directions, and the details of an error.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { CodebaseService } from "./gen/duovec/v1/codebase_service_pb.js";
import { EmbeddingService } from "./gen/duovec/v1/embedding_service_pb.js";
import { IndexedChunk_Disposition, IndexService } from "./gen/duovec/v1/index_service_pb.js";
import { InputType, VectorFormat } from "./gen/duovec/v1/vector_pb.js";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

const [endpoint, codebaseId] = process.argv.slice(2);
if (endpoint === undefined || codebaseId === undefined) throw new Error("usage: client.ts URL CODEBASE");

const transport = createGrpcTransport({
  baseUrl: endpoint,
  interceptors: [
    (next) => (request) => {
      request.header.set("authorization", `Bearer ${process.env["DUOVEC_API_KEY"]}`);
      return next(request);
    },
  ],
});
const embedding = createClient(EmbeddingService, transport);

const { embeddings } = await embedding.embed({
  texts: ["open a socket"],
  inputType: InputType.QUERY,
  vectorFormat: VectorFormat.FLOAT32_LE,
});
const vector = embeddings[0]?.vector?.float32Le ?? new Uint8Array();

await createClient(CodebaseService, transport).createCodebase({ codebaseId });
async function* chunks() {
  for (let number = 0; number < 40; number++) {
    const content = `def f${number}():\n    return ${number}\n`;
    const fileSha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content)));
    yield {
      codebaseId,
      itemId: String(number),
      chunk: {
        path: `f${number}.py`,
        language: "python",
        kind: "function",
        startLine: 1,
        endLine: 2,
        content,
        fileSha256,
        fileChunkCount: 1,
      },
    };
  }
}
const indexed: Record<string, string> = {};
for await (const { itemId, outcome } of createClient(IndexService, transport).indexChunks(chunks())) {
  if (outcome.case !== "indexed") throw new Error(`${itemId}: ${outcome.value?.message}`);
  indexed[itemId] = IndexedChunk_Disposition[outcome.value.disposition];
}

let refused: unknown;
// @ts-expect-error: were requests of no type, this would be an error of its own
void ((): unknown => embedding.embed({ texts: "one" }));
try {
  await embedding.embed({ texts: ["fine", " "], inputType: InputType.QUERY });
} catch (reason) {
  const error = ConnectError.from(reason);
  refused = {
    code: Code[error.code],
    reason: error.findDetails(ErrorInfoSchema)[0]?.reason,
    fields: error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field),
  };
}

console.log(JSON.stringify({ vector: Buffer.from(vector).toString("base64"), indexed, refused }));
