// As a careful user writes it: one client for the life of the sandbox, and a read for every call.

import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';

const ssm = new SSMClient({});
const asked = new GetParameterCommand({ Name: '/genesys/canary/percentage' });

export async function handler() {
  const percentage = Number((await ssm.send(asked)).Parameter.Value);
  const draw = 1 + Math.floor(100 * Math.random());
  return { randomPct: draw, percentage, canaryVersion: draw <= percentage ? 'v2' : 'v1' };
}
