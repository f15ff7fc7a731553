#!/bin/sh
# grüß
echo no newline at the end