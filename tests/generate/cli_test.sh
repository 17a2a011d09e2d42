#!/usr/bin/env bash
# What people and scripts see of generate: exit codes, one line for each mistake, text on stdout alone.
#     cli_test.sh GENERATE FIXTURES
# shellcheck source=tests/cli.sh
. "$(dirname "$0")/../cli.sh"

json() { tr -d ' \n' < report.json; }

cp -r "$fixtures/generate" models
cp "$fixtures/tokenizers/llama3/tokenizer.json" models/stablelm  # more tokens than the model has
model=models/llama

# Text.
run 0 --help
grep -q -- --perplexity out || fail "no help"
grep -q "Examples:" out || fail "no examples"
run 0 $model --prompt "the layer" --tokens 8 --no-stop --quiet --json report.json
[ "$(wc -l < out)" = 1 ] && [ ! -s err ] || fail "--quiet is not"
json | grep -q '"prompt_tokens":2' || fail "wrong number of prompt tokens"
json | grep -q '"stop":"mosttokens"' || fail "stops for another reason"
cp out once
printf 'the layer' > in
run 0 $model --tokens 8 --no-stop --quiet
cmp -s out once || fail "the prompt from standard input gives another text"
: > in
for threads in 1 2; do
    run 0 $model --prompt "the layer" --tokens 8 --no-stop --quiet --threads $threads
    cmp -s out once || fail "another number of threads gives another text"
done
run 0 $model --prompt "the layer" --tokens 8 --no-stop --quiet --temperature 1.5 --seed 3
cp out once
run 0 $model --prompt "the layer" --tokens 8 --no-stop --quiet --temperature 1.5 --seed 3
cmp -s out once || fail "the same seed gives another text"
run 0 $model --prompt "the layer"
grep -q 'tokens/s' err || fail "no figures"
run 0 $model --prompt "<|im_start|><|im_end|>" --tokens 1
run 0 $model --prompt "the" --tokens 500 --no-stop --quiet
grep -q 'context of 64 tokens is full' err || fail "does not say that the context is full"
run 0 $model --compare models/llama-low-rank --prompt "the" --tokens 4 --json report.json
grep -q '^== llama$' out && grep -q '^== llama-low-rank$' out || fail "--compare does not name both"
grep -q '7 of 15' out || fail "--compare does not count low-rank layers"
[ "$(json | grep -o '"text":' | wc -l)" = 2 ] || fail "no report of both"

# Chat.
cat > models/llama/tokenizer_config.json <<'JSON'
{"chat_template": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"}
JSON
run 0 $model --prompt "the" --quiet --json report.json --tokens 2
run 0 $model --prompt "the" --system "a layer" --tokens 2
refuse 1 "--system" models/llama-low-rank --prompt "the" --system "a layer"
run 0 $model --prompt "" --tokens 2
refuse 1 "empty" $model --prompt "" --raw
echo '{"chat_template": "[INST]"}' > models/llama/tokenizer_config.json
refuse 1 "--raw" $model --prompt "the"
run 0 $model --prompt "the" --raw --tokens 2
rm models/llama/tokenizer_config.json

# Tokens, logits, perplexity, speed.
run 0 $model --tokenize --prompt "the layers<|im_end|>"
[ "$(cat out)" = "23 32 17 2" ] || fail "--tokenize: other ids"
printf 'the layer\n\nof a\n' > in
run 0 $model --tokenize
cp out in
run 0 $model --detokenize
[ "$(cat out)" = $'the layer\n\nof a' ] || fail "--detokenize: another text"
echo '1 x' > in
refuse 1 "1 x" $model --detokenize
: > in
run 0 $model --ids 1,2,3 --logits logits.safetensors
[ "$(stat -c %s logits.safetensors)" -gt $((3 * 40 * 4)) ] || fail "--logits: too short a file"
for _ in $(seq 40); do printf 'the factors of a layer and the model '; done > text.txt
run 0 $model --perplexity text.txt --window 32 --tokens 200 --json report.json
grep -q '^perplexity ' out && grep -q '200/200 tokens' err || fail "--perplexity: no result or no progress"
json | grep -q '"predictions":193' || fail "--perplexity: a window's first token counts, or windows overlap"
run 0 $model --compare models/llama-low-rank --perplexity text.txt --window 32 --quiet
[ ! -s err ] || fail "--perplexity --quiet is not"
run 0 models/llama-biased --speed 16,4 --json report.json
json | grep -q '"decode_tokens":4' || fail "--speed: no figures"

# Calibration.
mkdir stats
run 0 $model --calibrate text.txt -o stats/a --window 32 --tokens 200 --gradient-tokens 64
grep -q '14 layers, 192 tokens, 64 of them with gradients' err || fail "--calibrate: other tokens"
grep -q '^forward, block 1 of 2' err && grep -q '^backward, block 1 of 2' err || fail "--calibrate: no progress"
run 0 models/llama-low-rank --calibrate text.txt -o stats/a --window 32 --quiet --force
[ ! -s err ] || fail "--calibrate --quiet is not"
refuse 1 "exists already" $model --calibrate text.txt -o stats/a --window 32
refuse 2 "--output" $model --calibrate text.txt
refuse 2 "--calibrate" $model --prompt the -o stats/b
refuse 2 "at least one window" $model --calibrate text.txt -o stats/b --window 32 --tokens 31
refuse 2 "not in f16" $model --calibrate text.txt -o stats/b --type f16
refuse 1 "context of 64" $model --calibrate text.txt -o stats/b
refuse 1 "No such file" $model --calibrate gone.txt -o stats/b --window 32
refuse 1 "No such file" $model --calibrate text.txt -o gone/b --window 32
refuse 1 "tokenizer.json" models/llama-biased --calibrate text.txt -o stats/b --window 32
printf 'the layer' > short.txt
refuse 1 "short.txt': has 2 tokens, fewer than one window of 32" $model --calibrate short.txt -o stats/b --window 32
[ "$(ls -A stats)" = a ] || fail "--calibrate: leaves $(ls -A stats)"

# Wrong usage: 2.
refuse 2 MODEL
refuse 2 --bogus $model --bogus
refuse 2 --threads $model --threads -1
refuse 2 --tokens $model --tokens 0
refuse 2 --type $model --type int4
refuse 2 "f32|bf16|f16" $model --type f64
refuse 2 --top-p $model --top-p 1.5
refuse 2 --top-p $model --top-p nan
refuse 2 --temperature $model --temperature nan
refuse 2 "from 0 to 1024" $model --threads 5000
refuse 2 "a whole number of at least 0" $model --ids "" --logits logits.safetensors
refuse 2 --logits $model --ids 1,2
refuse 2 --ids $model --ids 1,x --logits logits.safetensors
refuse 2 "exclude each other" $model --perplexity text.txt --tokenize
refuse 2 "exclude each other" $model --perplexity text.txt --prompt the
refuse 2 "exclude each other" $model --tokenize --compare $model

# Wrong input: 1.
refuse 1 "No such file" models/gone --prompt the
refuse 1 "tokenizer.json" models/llama-biased --prompt the
refuse 1 "vocabulary of 40" models/stablelm --prompt the
refuse 1 "is empty" $model
refuse 1 "UTF-8" $model --prompt $'the \xff'
refuse 1 "exceeds the model's context of 64" $model --prompt "$(cat text.txt)"
refuse 1 "outside the vocabulary" $model --ids 1,40 --logits logits.safetensors
refuse 1 "lies in" $model --ids 1,2 --logits $model/model.safetensors
refuse 1 "is also" $model --perplexity text.txt --json text.txt
refuse 1 "cannot create: No such file" $model --ids 1,2 --logits none/logits.safetensors
refuse 1 "No such file" $model --prompt the --compare models/gone
printf '40 1\n' > in
refuse 1 "outside the vocabulary of 40" $model --detokenize
: > in
refuse 1 "No such file" $model --perplexity gone.txt
refuse 1 "fewer than the 5000" $model --perplexity text.txt --tokens 5000
refuse 1 "window of 512" $model --perplexity text.txt
printf 'the' > short.txt
refuse 1 "short.txt': a text of fewer than 2 tokens" $model --perplexity short.txt --window 32
printf 'the \xff' > broken.txt
refuse 1 "broken.txt': the text is not UTF-8" $model --perplexity broken.txt --window 32
cp -r models/llama models/broken
printf '{"architectures":' > models/broken/config.json
refuse 1 "config.json': not valid JSON" models/broken --prompt the
cp models/llama/config.json models/broken
printf '{' > models/broken/tokenizer.json
refuse 1 "tokenizer.json': not valid JSON" models/broken --prompt the
sed -i 's/"hidden_size": 24/"hidden_size": 24, "attention_multiplier": 2/' models/broken/config.json
cp models/llama/tokenizer.json models/broken
run 0 models/broken --prompt the --tokens 1
grep -q '^warning: .*attention_multiplier' err || fail "does not name the unknown field"

# Interrupted: what was written stays, and the status says so. The text is long enough to keep it busy.
cp text.txt long.txt
for _ in $(seq 9); do
    cat long.txt long.txt > twice.txt
    mv twice.txt long.txt
done
set -m  # or else the shell makes its background jobs ignore SIGINT
: > err
"$program" $model --perplexity long.txt --window 32 > out 2> err < in &
running=$!
for _ in $(seq 1200); do
    grep -q 's left' err && break
    sleep 0.05
done
kill -INT "$running"
status=0
wait "$running" || status=$?
running=
[ "$status" = 130 ] || fail "SIGINT: status $status"
grep -q '^generate: interrupted$' err || fail "SIGINT: says nothing"

# A calibration that is interrupted leaves nothing.
: > err
"$program" $model --calibrate long.txt --window 32 --tokens 1000000 -o stats/b > out 2> err < in &
running=$!
for _ in $(seq 1200); do
    grep -q 's left' err && break
    sleep 0.05
done
kill -INT "$running"
status=0
wait "$running" || status=$?
running=
[ "$status" = 130 ] || fail "--calibrate, SIGINT: status $status"
[ "$(ls -A stats)" = a ] || fail "--calibrate, SIGINT: leaves $(ls -A stats)"

finish
