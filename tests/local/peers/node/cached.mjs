// As one who has read the bill writes it: one client, and a value that is kept for a second.

import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';

const KEPT = 1000; // milliseconds
const ssm = new SSMClient({});
const asked = new GetParameterCommand({ Name: '/genesys/canary/percentage' });
let value = 0;
let readAt = -Infinity;

async function percentage() {
  const now = performance.now();
  if (now - readAt >= KEPT) {
    value = Number((await ssm.send(asked)).Parameter.Value);
    readAt = now;
  }
  return value;
}

export async function handler() {
  const share = await percentage();
  const draw = 1 + Math.floor(100 * Math.random());
  return { randomPct: draw, percentage: share, canaryVersion: draw <= share ? 'v2' : 'v1' };
}
