// A small sink for Ledgerline in Node 20 or newer, no packages. It books each item
// once and refuses stale workers, also after a restart:
//
//   node docs/sinks/node/sink.mjs --listen 127.0.0.1:8088 --data bookings.jsonl
//   LEDGERLINE_SINK=http://127.0.0.1:8088/ ledgerline up
//
// The "accounting system" is the file: one line a booking. Replace book by a call to
// yours, and read docs/sinks.md for what that must keep.
import fs from "node:fs";
import http from "node:http";
import { parseArgs } from "node:util";

const MAX_BODY = 32 << 20; // above any export item; a larger body is no item

class Stale extends Error {}

// What was booked, and which worker may book.
class Books {
  booked = new Map(); // externalId by idempotency key
  epochs = new Map(); // the highest seen, by job
  size = 0; // bytes of the lines that are whole

  // Reads the file of an earlier run. A last line that a crash cut short was never
  // answered for, and is removed.
  constructor(path) {
    this.file = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    const content = fs.readFileSync(path);
    this.size = content.lastIndexOf("\n") + 1;
    fs.ftruncateSync(this.file, this.size);
    for (const line of content.subarray(0, this.size).toString().split("\n")) {
      if (line) this.remember(JSON.parse(line));
    }
  }

  remember(line) {
    this.epochs.set(line.job, Math.max(this.epochs.get(line.job) ?? 0, line.epoch));
    if (line.key) this.booked.set(line.key, line.externalId);
  }

  // On disk before it is remembered, and before it is answered for. Half a line that
  // could not be finished is overwritten by the next one.
  write(line) {
    const bytes = Buffer.from(JSON.stringify(line) + "\n");
    try {
      for (let at = 0; at < bytes.length; ) at += fs.writeSync(this.file, bytes, at, bytes.length - at, this.size + at);
      fs.fsyncSync(this.file);
    } catch (error) {
      fs.ftruncateSync(this.file, this.size);
      throw error;
    }
    this.size += bytes.length;
    this.remember(line);
  }

  // Books once. Fence, look-up, booking and key are one step, because nothing here
  // waits: with an await in between, two requests for one key would both book. Then
  // use a transaction, or a lock by key.
  book(job, epoch, key, body) {
    const seen = this.epochs.get(job) ?? 0;
    if (epoch < seen) throw new Stale();
    const known = this.booked.get(key);
    if (known) {
      if (epoch > seen) this.write({ job, epoch });
      return { externalId: known, again: true };
    }
    const externalId = `JE-${this.booked.size + 1}`;
    // The body as received, as text: JSON.parse rounds large numbers.
    this.write({ job, epoch, key, externalId, at: new Date().toISOString(), body });
    return { externalId, again: false };
  }
}

// What this sink asks of an item. Without a payload (LEDGERLINE_PAYLOAD=none) it books
// the entry by its id.
function check(item) {
  if (item === null) return undefined;
  if (typeof item !== "object" || !item.accountingEntryId || !item.amount) return "The entry has no id or no amount";
  return undefined;
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    if ((size += chunk.length) > MAX_BODY) throw new Error("the body is too large");
    chunks.push(chunk);
  }
  if (!request.complete) throw new Error("the body was cut off");
  return Buffer.concat(chunks).toString();
}

function answer(response, status, fields) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(fields && JSON.stringify(fields));
}

async function handle(books, request, response) {
  if (request.method === "HEAD") return answer(response, 200); // "are you ready?"
  if (request.method !== "POST") return answer(response, 405);
  let body;
  try {
    body = await read(request);
  } catch {
    return answer(response, 503); // nothing is booked
  }
  const key = request.headers["idempotency-key"];
  const job = request.headers["ledgerline-job-id"];
  const epoch = Number(request.headers["ledgerline-epoch"]);
  let item;
  try {
    item = JSON.parse(body).item;
  } catch {
    item = undefined;
  }
  if (!key || !job || !Number.isSafeInteger(epoch) || item === undefined) {
    return answer(response, 400, { failureReason: "This is no delivery of Ledgerline" });
  }
  const problem = check(item);
  if (problem) return answer(response, 422, { failureReason: problem, failureReasonType: "validation_failure" });
  try {
    const { externalId, again } = books.book(job, epoch, key, body);
    return answer(response, again ? 409 : 201, { externalId });
  } catch (error) {
    if (error instanceof Stale) return answer(response, 412);
    console.error(error); // the disk, or your system, is away: the same item comes again
    return answer(response, 503);
  }
}

const { values } = parseArgs({
  options: {
    listen: { type: "string", default: "127.0.0.1:8088" },
    data: { type: "string", default: "bookings.jsonl" },
  },
});
const books = new Books(values.data);
const server = http.createServer((request, response) => {
  handle(books, request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
const colon = values.listen.lastIndexOf(":");
server.listen(Number(values.listen.slice(colon + 1)), values.listen.slice(0, colon), () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
