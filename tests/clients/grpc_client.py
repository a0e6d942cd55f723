"""A gRPC client without credentials: one unary call and one stream.

Usage: grpc_client.py HOST:PORT
"""

import sys

import grpc

with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
    say = channel.unary_unary("/echo.Echo/Say")
    answer, call = say.with_call(b"hello", timeout=20)
    trailers = {key: value for key, value in call.trailing_metadata()}
    print(answer.decode(), call.code().name, trailers["echo-trailer"])

    repeat = channel.unary_stream("/echo.Echo/Repeat")
    print(*[piece.decode() for piece in repeat(b"again", timeout=20)])
