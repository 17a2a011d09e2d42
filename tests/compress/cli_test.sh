#!/usr/bin/env bash
# What people and scripts see of compress: exit codes, one line for each mistake, nothing left behind.
#     cli_test.sh COMPRESS FIXTURES
# shellcheck source=tests/cli.sh
. "$(dirname "$0")/../cli.sh"

leaves() {
    [ "$(ls -A models)" = "$1" ] || fail "left in the folder: $(ls -A models | tr '\n' ' '), not: $1"
}

# after KEY N M: report.json says that KEY goes from N to M.
after() {
    tr -d ' \n' < report.json | grep -qF "\"$1\":{\"before\":$2,\"after\":$3}" || fail "report: $1 not $2 -> $3"
}

mkdir models
cp -r "$fixtures/tiny" models/in
ranks=q_proj=6,o_proj=7,gate_proj=8,down_proj=5

# Success.
run 0 --help
grep -q -- --ranks out || fail "no help"
run 0 models/in --plan --ranks $ranks --json report.json
grep -q '10,990' out && grep -q '6,638' out || fail "--plan: wrong counts"
after parameters 10990 6638
after bytes 29801 16425
leaves in
run 0 models/in --plan --ranks $ranks --measure 2
grep -q 'low-rank us' out || fail "--measure: no table"
run 0 models/in --plan --quiet --ranks $ranks
[ ! -s out ] && [ ! -s err ] || fail "--quiet is not"
run 0 models/in models/out --ranks $ranks --threads 1 --json report.json
grep -q '6,638' out || fail "no table"
[ "$(wc -l < err)" = 8 ] || fail "not one line of progress for each layer"
after parameters 10990 6638
after bytes 29801 16425
cmp -s models/in/1_Pooling/config.json models/out/1_Pooling/config.json || fail "a subfolder's file differs"
leaves $'in\nout'
echo '{"q_proj": {"share": 0.5}}' > ranks.json
run 0 models/in models/out --config ranks.json --force --quiet
[ ! -s out ] && [ ! -s err ] || fail "--quiet is not"
run 0 models/in --plan --ranks k_proj=12
grep -q '^warning: .*break-even' err || fail "no warning of a rank above break-even"

# By calibration.
statistics=$fixtures/tiny-statistics.safetensors
run 0 models/in models/calibrated --calibration "$statistics" --share 0.6 --json report.json --plot plot.svg
grep -q 'nats per token' out || fail "no estimate of the loss"
grep -q '^</svg>$' plot.svg || fail "no plot"
[ "$(wc -l < err)" = 20 ] || fail "not two lines of progress for each layer"
run 0 models/in models/calibrated --calibration "$statistics" --shares 0.8,0.5 --json report.json --quiet
[ -f report-0.8.json ] && [ -f report-0.5.json ] || fail "not a report for each share"
[ -f models/calibrated-0.8/config.json ] && [ -f models/calibrated-0.5/config.json ] || fail "not a model for each"
run 0 models/in models/calibrated --calibration "$statistics" --target-parameters 8000 --layers gate_proj,down_proj --force
run 0 models/in models/calibrated --calibration "$statistics" --ranks $ranks --force --json report.json
after parameters 10990 6638
grep -q weighted_error report.json || fail "--ranks --calibration: not weighted"
rm -r models/calibrated models/calibrated-0.8 models/calibrated-0.5
refuse 2 --excess models/in models/new --ranks q_proj=6 --excess 0
refuse 2 --method models/in models/new --ranks q_proj=6 --method quick
refuse 2 --share models/in models/new --calibration "$statistics"
refuse 2 --calibration models/in models/new --share 0.5
refuse 2 --ranks models/in models/new --calibration "$statistics" --share 0.5 --ranks q_proj=6
refuse 2 --share models/in models/new --calibration "$statistics" --share 0.5,0.5
refuse 1 "multiples of 0" models/in models/new --calibration "$statistics" --share 0.5 --multiple 0
refuse 1 "floor <= cap" models/in models/new --calibration "$statistics" --share 0.5 --floor 2
refuse 2 --plan models/in --plan --calibration "$statistics" --share 0.5
refuse 2 --share models/in models/new --calibration "$statistics" --share 0.5 --target-parameters 8000
refuse 1 "No such file" models/in models/new --calibration gone.safetensors --share 0.5
refuse 1 "holds no statistics" models/in models/new --calibration models/in/model-00001-of-00002.safetensors --share 0.5
refuse 1 "(0, 1)" models/in models/new --calibration "$statistics" --share 1.5
refuse 1 "lowest ranks" models/in models/new --calibration "$statistics" --share 0.5,0.01
refuse 1 "exists already" models/in models/out --calibration "$statistics" --share 0.5
leaves $'in\nout'

# By a text, where the engine of generate is built.
for _ in $(seq 40); do printf 'the factors of a layer and the model '; done > text.txt
llama=$fixtures/generate/llama
refuse 2 "--text excludes --calibration" "$llama" models/new --text text.txt --calibration "$statistics" --share 0.8
refuse 2 "needs --text" "$llama" models/new --share 0.8
refuse 2 "--text" "$llama" models/new --share 0.8 --calibration "$statistics" --tokens 64
refuse 2 "budget" "$llama" models/new --text text.txt
refuse 2 "--plan" "$llama" --plan --text text.txt --ranks q_proj=6
refuse 1 "collect_statistics.py" "$fixtures/generate/llama-biased" models/new --text text.txt --share 0.8  # no tokenizer
engine=yes
grep -q 'was built without' err && engine=no
if [ $engine = yes ]; then
    run 0 "$llama" models/new --text text.txt --share 0.8 --json report.json --plot plot.svg
    grep -q 'nats per token' out || fail "--text: no estimate of the loss"
    grep -q '^forward, block 1 of 2' err && grep -q 's left$' err || fail "--text: no progress"
    grep -q '^refit, block 1 of 2' err || fail "--text: no refit"
    grep -q '"statistics": "text.txt"' report.json || fail "--text: the report does not name it"
    grep -q '^</svg>$' plot.svg || fail "--text: no plot"
    [ ! -e models/new/statistics.safetensors ] || cmp -s "$llama/statistics.safetensors" models/new/statistics.safetensors ||
        fail "--text: leaves its statistics"
    rm -r models/new
    run 0 "$llama" models/new --text text.txt --shares 0.8,0.6 --window 32 --tokens 96 --gradient-tokens 32 --quiet
    grep -v '^warning: ' err && fail "--text --quiet is not"
    rm -r models/new-0.8 models/new-0.6
    run 0 "$llama" models/new --text text.txt --target-parameters 8500 --one-sided --refit-tokens 0
    grep -q 'mean squared output error' out || fail "--text --one-sided: has gradients"
    grep -q '^backward' err && fail "--text --one-sided: computes gradients"
    grep -q '^refit' err && fail "--refit-tokens 0: refits"
    run 0 "$llama" models/new --text text.txt --ranks q_proj=6 --force --json report.json
    grep -q weighted_error report.json || fail "--text --ranks: not weighted"
    rm -r models/new
    refuse 1 "No such file" "$llama" models/new --text gone.txt --share 0.8
    refuse 1 "(0, 1)" "$llama" models/new --text text.txt --share 1.5
    refuse 1 "lowest ranks" "$llama" models/new --text text.txt --share 0.01
    refuse 1 "no statistics of model.embed_tokens" "$llama" models/new --text text.txt --ranks embed_tokens=6
    refuse 1 "context of 64" "$llama" models/new --text text.txt --share 0.8 --window 65
    printf 'the' > short.txt
    refuse 1 "fewer than one window" "$llama" models/new --text short.txt --share 0.8
    refuse 1 "fewer than one window" "$llama" models/new --text text.txt --share 0.8 --window 32 --tokens 31
    refuse 1 "--plot 'text.txt' is also" "$llama" models/new --text text.txt --share 0.8 --plot text.txt
    refuse 1 "exists already" "$llama" models/out --text text.txt --share 0.8
    cp -r "$llama" gpt
    sed -i 's/LlamaForCausalLM/GPT2LMHeadModel/; s/"model_type": *"llama"/"model_type": "gpt2"/' gpt/config.json
    refuse 1 "collect_statistics.py" gpt models/new --text text.txt --share 0.8
    grep -qi gpt2 err || fail "--text: does not name the architecture"
    leaves $'in\nout'
fi

# Wrong usage: 2.
refuse 2 "needs --plan" models/in models/out --ranks $ranks --measure 1
refuse 2 IN
refuse 2 --ranks models/in models/new
refuse 2 OUT models/in --ranks q_proj=6
refuse 2 --bogus models/in models/new --ranks q_proj=6 --bogus
refuse 2 --threads models/in models/new --ranks q_proj=6 --threads -1
refuse 2 --threads models/in models/new --ranks q_proj=6 --threads many
refuse 2 "from 0 to 1024" models/in models/new --ranks q_proj=6 --threads 5000
refuse 2 "auto|exact" models/in models/new --ranks q_proj=6 --method magic
refuse 2 "is not a number" models/in models/new --calibration "$statistics" --share ""
refuse 2 "is not a number" models/in models/new --calibration "$statistics" --share nan
refuse 2 --measure models/in --plan --ranks q_proj=6 --measure 100000000000
refuse 2 --config models/in models/new --ranks q_proj=6 --config ranks.json
leaves $'in\nout'

# Wrong input: 1.
refuse 1 "is not a whole number" models/in models/new --ranks q_proj=six
refuse 1 "at least 1" models/in models/new --ranks q_proj=0
refuse 1 "configured twice" models/in models/new --ranks q_proj=6,q_proj=7
refuse 1 "nearest names are q_proj" models/in models/new --ranks q_prj=6
refuse 1 "No such file" models/in models/new --config gone.json
refuse 1 "No such file" models/gone models/new --ranks q_proj=6
refuse 1 "not a folder" models/in/config.json models/new --ranks q_proj=6
refuse 1 "holds neither" models/in/1_Pooling models/new --ranks q_proj=6
refuse 1 "exists already" models/in models/out --ranks q_proj=6
refuse 1 "both the source and the target" models/in models/in --ranks q_proj=6 --force
refuse 1 "inside the source" models/in models/in/new --ranks q_proj=6
refuse 1 "No such file" models/in models/none/new --ranks q_proj=6
echo '{"q_proj": 6,}' > bad.json
refuse 1 "bad.json': not valid JSON" models/in models/new --config bad.json

# Reports that would destroy what is read or written, or cannot be written: before the work.
cp -r models/in before
echo '{"q_proj": 6}' > good.json
refuse 1 "lies in" models/in models/new --ranks q_proj=6 --json models/in/config.json
refuse 1 "lies in" models/in models/new --ranks q_proj=6 --plot models/new/model.safetensors
refuse 1 "is also" models/in models/new --config good.json --json good.json
refuse 1 "is also" models/in models/new --ranks q_proj=6 --json one --plot one
refuse 1 "cannot create: No such file" models/in models/new --ranks q_proj=6 --json none/report.json
refuse 1 "is a folder" models/in models/new --ranks q_proj=6 --plot before
diff -r before models/in > out || fail "the source has changed"
: > out
leaves $'in\nout'

# Output that gets nowhere.
if [ -w /dev/full ]; then
    status=0
    "$program" models/in --plan --ranks q_proj=6 > /dev/full 2> err < in || status=$?
    [ "$status" = 1 ] && grep -q 'cannot write to standard output' err || fail "/dev/full: status $status"
fi
status=0
"$program" models/in models/new --ranks q_proj=6 --json report.json 2>&1 > out < in | true
[ -e models/new/model.safetensors.index.json ] || fail "a closed standard error stops the work"
rm -r models/new

run 0 models/in --plan --ranks embed_tokens=4
grep -q 'warning: .*embed_tokens.* is an embedding' err || fail "no warning of an embedding"
cp -r models/in cut
truncate -s -1 cut/model-00002-of-00002.safetensors
refuse 1 "model-00002-of-00002.safetensors': " cut models/new --ranks q_proj=6
refuse 1 "offsets" cut models/new --ranks q_proj=6 --plan
leaves $'in\nout'

# Interrupted: neither a target nor temporary files. Six random weights keep it busy for long enough.
side=1200
bytes=$((4 * side * side))
mkdir models/big
header='{'
for i in 0 1 2 3 4 5; do
    header+="\"layers.$i.p.weight\":{\"dtype\":\"F32\",\"shape\":[$side,$side],"
    header+="\"data_offsets\":[$((i * bytes)),$(((i + 1) * bytes))]},"
done
header="${header%,}}"
{
    # The length, little-endian; it is below 65536.
    printf "\\x$(printf %02x $((${#header} % 256)))\\x$(printf %02x $((${#header} / 256)))\\0\\0\\0\\0\\0\\0%s" "$header"
    # Only the bytes '2' and '>': finite floats.
    head -c $((6 * bytes)) /dev/urandom | LC_ALL=C tr '\000-\177\200-\377' '[2*128][>*128]'
} > models/big/model.safetensors
echo '{}' > models/big/config.json
set -m  # or else the shell makes its background jobs ignore SIGINT
for signal in INT TERM HUP; do
    "$program" models/big models/new --ranks p=100 --method exact --threads 1 > out 2> err < /dev/null &
    running=$!
    for _ in $(seq 600); do
        compgen -G 'models/.lowrank-*/*' > /dev/null && break
        sleep 0.05
    done
    kill -"$signal" "$running"
    status=0
    wait "$running" || status=$?
    running=
    [ "$status" = $((128 + $(kill -l "$signal"))) ] || fail "SIG$signal: status $status"
    grep -q '^compress: interrupted$' err || fail "SIG$signal: says nothing"
    leaves $'big\nin\nout'
done

# A signal that is ignored from the start, as by nohup, stays ignored.
trap '' HUP
"$program" models/big models/new --ranks p=100 --method exact --threads 1 > out 2> err < /dev/null &
running=$!
trap - HUP
for _ in $(seq 600); do
    compgen -G 'models/.lowrank-*/*' > /dev/null && break
    sleep 0.05
done
kill -HUP "$running"
sleep 0.1
kill -TERM "$running"
status=0
wait "$running" || status=$?
running=
[ "$status" = 143 ] || fail "SIGHUP, ignored: status $status"
leaves $'big\nin\nout'

# The same while the text is run.
if [ $engine = yes ]; then
    for _ in $(seq 9); do
        cat text.txt text.txt > twice.txt
        mv twice.txt text.txt
    done
    : > err
    "$program" "$llama" models/new --text text.txt --share 0.8 --tokens 1000000 --threads 1 > out 2> err < /dev/null &
    running=$!
    for _ in $(seq 1200); do
        grep -q 's left' err && break
        sleep 0.05
    done
    kill -INT "$running"
    status=0
    wait "$running" || status=$?
    running=
    [ "$status" = 130 ] || fail "--text, SIGINT: status $status"
    leaves $'big\nin\nout'
fi

finish
