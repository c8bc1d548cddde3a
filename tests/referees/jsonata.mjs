// Evaluates JSONata with the reference implementation. A line of the input is a JSON object:
// `source`, and `bindings`, the variables; a line of the output is `=` and the value as JSON,
// `nothing`, or `error`. crates/local-cloud/languages/src/states/referee.rs asks.
import { createInterface } from "node:readline";
import jsonata from "jsonata";

/** The moment of the Rust side. */
const NOW = "2023-11-14T22:13:20.123Z";

/** JSONata gives values that JSON has not: then there is no answer of AWS to compare with. */
function isJson(value) {
  if (typeof value === "function" || value?._jsonata_function || value?._jsonata_lambda) return false;
  if (typeof value === "number") return Number.isFinite(value);
  if (Array.isArray(value)) return value.every(isJson);
  if (value !== null && typeof value === "object") return Object.values(value).every(isJson);
  return true;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { source, bindings } = JSON.parse(line);
  let answer = "error";
  try {
    // In Step Functions there is no context item: the variables hold everything.
    const value = await jsonata(source).evaluate(undefined, { ...bindings, now: () => NOW });
    if (value === undefined) answer = "nothing";
    else if (isJson(value)) answer = "=" + JSON.stringify(value);
  } catch {
    // Compared as an error, whatever its text.
  }
  console.log(answer);
}
