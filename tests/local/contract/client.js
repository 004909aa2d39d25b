// The vendor's JavaScript client against the simulator: node client.js <port> <flow id> <table id> <interval>. Prints what it read, as
// JSON; whether that is right is for test_vendor_client.py to say.

const vendor = require('purecloud-platform-client-v2');

const [port, flowId, tableId, interval] = process.argv.slice(2);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function main() {
  const client = vendor.ApiClient.instance;
  client.setGateway({ host: '127.0.0.1', protocol: 'http', port: Number(port), path_params_login: '', path_params_api: '' });
  await client.loginClientCredentialsGrant('id', 'secret');
  const [architect, analytics] = [new vendor.ArchitectApi(), new vendor.AnalyticsApi()];
  return {
    flow: await architect.getFlow(flowId),
    versions: await architect.getFlowVersions(flowId, { pageSize: 1, pageNumber: 2 }),
    ...(await publish(architect)),
    aggregates: await analytics.postAnalyticsFlowsAggregatesQuery(aggregates('nFlow')),
    details: await details(analytics),
    job: await detailsJob(analytics),
    rows: await rows(architect),
    refused: {
      flow: await refusal(architect.getFlow('nobody')),
      metric: await refusal(analytics.postAnalyticsFlowsAggregatesQuery(aggregates('nAbandon'))),
      row: await refusal(architect.postFlowsDatatableRows(tableId, { key: 'main_ivr', weight: 5 })),
    },
  };
}

async function publish(architect) {
  const operation = await architect.postFlowsActionsPublish(flowId, { version: '13.0' });
  const published = await until(
    () => architect.getFlow(flowId),
    (flow) => flow.currentOperation.complete,
  );
  return { operation, published };
}

function aggregates(metric) {
  return { interval, granularity: 'PT30M', groupBy: ['flowId', 'flowVersion'], metrics: [metric] };
}

// Every page of the synchronous query.
async function details(analytics) {
  const query = { interval, order: 'asc', orderBy: 'conversationStart' };
  const page = (pageNumber) => analytics.postAnalyticsConversationsDetailsQuery({ ...query, paging: { pageSize: 100, pageNumber } });
  const pages = [await page(1)];
  while (pages.at(-1).conversations?.length === 100) pages.push(await page(pages.length + 1));
  return pages;
}

// How an asynchronous job went, and every page of its results.
async function detailsJob(analytics) {
  const { jobId } = await analytics.postAnalyticsConversationsDetailsJobs({ interval });
  const early = await refusal(analytics.getAnalyticsConversationsDetailsJobResults(jobId));
  const states = [];
  await until(
    () => analytics.getAnalyticsConversationsDetailsJob(jobId),
    ({ state }) => states.push(state) && state === 'FULFILLED',
  );
  const pages = [await analytics.getAnalyticsConversationsDetailsJobResults(jobId, { pageSize: 50 })];
  for (let cursor; (cursor = pages.at(-1).cursor); )
    pages.push(await analytics.getAnalyticsConversationsDetailsJobResults(jobId, { pageSize: 50, cursor }));
  return { early, states, pages };
}

async function rows(architect) {
  const row = { key: 'main_ivr', Active_Flow_ID: flowId, Traffic_Weight: 5, revision: 1, owner: 'prod' };
  const created = await architect.postFlowsDatatableRows(tableId, row);
  const replaced = await architect.putFlowsDatatableRow(tableId, row.key, { body: { ...row, Traffic_Weight: 100, revision: 2 } });
  const read = await architect.getFlowsDatatableRow(tableId, row.key, { showbrief: false });
  const listed = await architect.getFlowsDatatableRows(tableId);
  await architect.deleteFlowsDatatableRow(tableId, row.key);
  return { created, replaced, read, listed, left: await architect.getFlowsDatatableRows(tableId) };
}

// Asks every 0.1 s, for 10 s at most, until what comes is what is waited for.
async function until(ask, done) {
  for (let tries = 0; tries < 100; tries++) {
    const answer = await ask();
    if (done(answer)) return answer;
    await pause(100);
  }
  throw new Error('what was waited for does not come');
}

// Status and code; the client rejects with the vendor's body.
async function refusal(call) {
  return call.then(
    (answer) => ['answered', answer],
    ({ status, code }) => [status, code],
  );
}

main().then(
  (read) => console.log(JSON.stringify(read)),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
