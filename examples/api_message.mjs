// A Slack message as one of your users. No token of Slack's comes near this program.
//   node api_message.mjs EXTERNAL_USER_ID
import { PipedreamClient } from "@pipedream/sdk";

const externalUserId = process.argv[2];
const client = new PipedreamClient();
const { data } = await client.accounts.list({ externalUserId, app: "slack" });
const answer = await client.proxy.post({
  externalUserId,
  accountId: data[0].id,
  url: "/chat.postMessage",
  body: { channel: "general", text: "hello" },
});
console.log(answer.ok);
