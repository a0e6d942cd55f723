"""The README's example: a Slack message from a program that holds no token."""

from slack_sdk import WebClient

client = WebClient()
answer = client.chat_postMessage(channel="#general", text="Sent without a token")
print(answer["ok"], answer["ts"])
