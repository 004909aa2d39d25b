// The vendor's JavaScript client against the simulator: node client.js <port> <flow id>. Ends with 0 when it read what it should.

const assert = require('node:assert/strict');
const vendor = require('purecloud-platform-client-v2');

const [port, flowId] = process.argv.slice(2);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function main() {
  const client = vendor.ApiClient.instance;
  client.setGateway({ host: '127.0.0.1', protocol: 'http', port: Number(port), path_params_login: '', path_params_api: '' });
  await client.loginClientCredentialsGrant('id', 'secret');

  const architect = new vendor.ArchitectApi();
  const flow = await architect.getFlow(flowId);
  assert.deepEqual([flow.name, flow.type, flow.publishedVersion.id], ['Main_IVR_Green', 'INBOUNDCALL', '14.0']);
  const versions = await architect.getFlowVersions(flowId, { pageSize: 1, pageNumber: 2 });
  assert.deepEqual([versions.total, versions.entities.map((version) => version.id)], [2, ['13.0']]);

  const operation = await architect.postFlowsActionsPublish(flowId, { version: '13.0' });
  assert.deepEqual([operation.actionName, operation.actionStatus, operation.complete], ['PUBLISH', 'STARTED', false]);
  let now = await architect.getFlow(flowId);
  for (let tries = 0; !now.currentOperation.complete && tries < 50; tries++) {
    await pause(100);
    now = await architect.getFlow(flowId);
  }
  assert.deepEqual([now.currentOperation.id, now.currentOperation.actionStatus, now.publishedVersion.id], [operation.id, 'SUCCESS', '13.0']);

  const interval = '2026-11-20T09:00:00.000Z/2026-11-20T09:30:00.000Z';
  const query = { interval, granularity: 'PT30M', groupBy: ['flowId'], metrics: ['nFlow'] };
  const { results } = await new vendor.AnalyticsApi().postAnalyticsFlowsAggregatesQuery(query);
  const counts = Object.fromEntries(results.map(({ group, data }) => [group.flowId, data[0].metrics[0].stats.count]));

  await assert.rejects(architect.getFlow('nobody'), { status: 404 });
  const invented = { ...query, metrics: ['nAbandon'] };
  await assert.rejects(new vendor.AnalyticsApi().postAnalyticsFlowsAggregatesQuery(invented), { status: 400 });
  console.log(JSON.stringify(counts));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
