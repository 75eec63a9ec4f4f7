// Functions of the option `grants` that approve calls: `grants: { NAMES: { dns: {...}, approve: (asked) => boolean } }`.
//
// A call is made if its function returns `true`, or a promise of it. What a function throws is a refusal.

import { core } from "ext:core/mod.js";
import { op_grant_asked, op_grant_decided } from "ext:core/ops";

// The grants as JSON, and the functions by the names of their grants.
export function takeApprovers(given) {
  const approvers = Object.create(null);
  if (given === undefined) return { grants: "", approvers };
  if (typeof given !== "object" || given === null) return { grants: JSON.stringify(given), approvers };
  const grants = Object.create(null);
  for (const name of Object.keys(given)) {
    const grant = given[name];
    if (typeof grant !== "object" || grant === null || !("approve" in grant)) {
      grants[name] = grant;
      continue;
    }
    const { approve, ...rest } = grant;
    if (typeof approve !== "function") {
      throw new TypeError(`grants.${name}.approve must be a function, not ${typeof approve}`);
    }
    approvers[name] = approve;
    grants[name] = rest;
  }
  return { grants: JSON.stringify(Array.isArray(given) ? given : grants), approvers };
}

// Asks the functions until the isolate has ended. The wait for a question keeps no script running: the call does.
export async function answerApprovals(sandbox, isolate, approvers) {
  for (;;) {
    const next = op_grant_asked(sandbox, isolate);
    core.unrefOpPromise(next);
    const question = await next;
    if (question === null) return;
    decide(approvers[question.asked.binding], question.asked).then((approved) =>
      op_grant_decided(sandbox, isolate, question.number, approved)
    );
  }
}

async function decide(approve, asked) {
  try {
    return await approve(asked) === true;
  } catch {
    return false;
  }
}
