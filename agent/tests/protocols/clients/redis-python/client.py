"""Steps of commands with redis-py: protocol version, port, steps as JSON."""

import json
import sys

import redis

client = redis.Redis(port=int(sys.argv[2]), protocol=int(sys.argv[1]))


def run(call):
    try:
        call()
    except redis.ResponseError:
        pass


for how, commands in json.loads(sys.argv[3]):
    if how == "one":
        for words in commands:
            run(lambda: client.execute_command(*words))
    else:
        pipeline = client.pipeline(transaction=how == "multi")
        for words in commands:
            pipeline.execute_command(*words)
        run(lambda: pipeline.execute(raise_on_error=False))
client.close()
print("done")
