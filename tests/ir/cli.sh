#!/bin/sh
# alphac opt and alphac eval: what they print, and how they refuse.
#   cli.sh ALPHAC MODELS
set -u
alphac=$1 models=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0

# expect STATUS COMMAND...: exit status and all output are those of standard input
expect() {
  status=$1
  shift
  cat >want
  "$@" >out 2>&1 </dev/null
  got=$?
  if [ $got -ne "$status" ] || ! cmp -s want out; then
    echo "FAILED: $*: status $got, expected $status"
    diff want out | sed 's/^/    /'
    failed=1
  fi
}

cat >t.ir <<'END'
graph "t" {
  %0 = input f32[2,3] "x"
  %1 = param f32[3] "w"
  %2 = reshape f32[1,3] %1
  %3 = expand f32[2,3] %2
  %4 = mul f32[2,3] %0 %3
  %5 = tanh f32[2,3] %4
  %6 = argmax i32[2,1] %0 axis=1
  output "y" %4
  output "at" %6
  update "w" %1
}
END

# ---- opt ----
expect 0 "$alphac" opt --passes=dead t.ir <<'END'
graph "t" {
  %0 = input f32[2,3] "x"
  %1 = param f32[3] "w"
  %2 = reshape f32[1,3] %1
  %3 = expand f32[2,3] %2
  %4 = mul f32[2,3] %0 %3
  %5 = argmax i32[2,1] %0 axis=1
  output "y" %4
  output "at" %5
  update "w" %1
}
END
expect 0 "$alphac" opt t.ir -o copy.ir </dev/null
expect 0 cmp t.ir copy.ir </dev/null
expect 0 "$alphac" opt --passes dead --skip-pass dead copy.ir -o again.ir </dev/null
expect 0 cmp t.ir again.ir </dev/null
"$alphac" opt --passes=dead --dump-after=all --time-passes t.ir -o live.ir >out 2>&1 ||
  { echo "FAILED: dumps"; failed=1; }
grep -q '^// after dead$' out && grep -q '^  dead  *[0-9.]*  *7  *6$' out || { echo "FAILED: dump or times:"; cat out; failed=1; }
sed -n '/^\/\/ after/,/^}/p' out >dump.ir
expect 0 "$alphac" opt dump.ir -o back.ir </dev/null
expect 0 cmp live.ir back.ir </dev/null
expect 2 "$alphac" opt --passes=simplfy t.ir <<'END'
alphac opt: error: there is no pass "simplfy"; did you mean simplify?
`alphac opt --help` lists the options.
END
expect 2 "$alphac" opt --pases=dead t.ir <<'END'
alphac opt: error: unknown option --pases; did you mean --passes?
`alphac opt --help` lists the options.
END
expect 2 "$alphac" opt --passes <<'END'
alphac opt: error: --passes needs a value: --passes LIST
`alphac opt --help` lists the options.
END
expect 2 "$alphac" opt --time-passes=yes t.ir <<'END'
alphac opt: error: --time-passes takes no value
`alphac opt --help` lists the options.
END
expect 2 "$alphac" opt --precision=i32 t.ir <<'END'
alphac opt: error: --precision i32: expected f32, bf16 or f16
`alphac opt --help` lists the options.
END
expect 2 "$alphac" opt <<'END'
alphac opt: error: no graph given: alphac opt [--passes=LIST] FILE.ir [-o OUT]
`alphac opt --help` lists the options.
END
expect 2 "$alphac" opt t.ir u.ir <<'END'
alphac opt: error: two files: t.ir and u.ir
`alphac opt --help` lists the options.
END
expect 1 "$alphac" opt missing.ir <<'END'
alphac: error: cannot read missing.ir: No such file or directory
END
expect 1 "$alphac" opt . <<'END'
alphac: error: cannot read .: Is a directory
END
expect 1 "$alphac" opt t.ir -o no/such/place <<'END'
alphac: error: no/such/place: cannot be written: No such file or directory
END
expect 1 "$alphac" opt - <<'END'
<stdin>:1:1: error: expected graph "name" {
  
  ^
END
printf 'graph "g" {\n  %%0 = tanhh f32[3]\n}\n' >bad.ir
expect 1 "$alphac" opt bad.ir <<'END'
bad.ir:2:8: error: there is no operation tanhh; did you mean tanh?
    %0 = tanhh f32[3]
         ^
END
printf 'graph "g" {\n  %%0 = input i32[4] "rng"\n  update "rng" %%0\n}\n' >broken.ir
expect 1 "$alphac" opt broken.ir <<'END'
alphac: error: graph "g" in broken.ir is not well-formed:
%0 = input i32[4] "rng": update "rng": that is an input, which a program cannot change
END

# what alphac prints for a model reads back as the same text
for model in gpt2 hlx cajal llama; do
  "$alphac" "$models/$model.alpha" --emit=ir -o model.ir && "$alphac" opt model.ir -o back.ir && cmp model.ir back.ir ||
    { echo "FAILED: $model"; failed=1; }
done

# several graphs in one file: opt takes each, eval the one that is named
{ cat t.ir; printf 'graph "u" {\n  %%7 = input f32[] "x"\n  %%9 = exp f32[] %%7\n  output "y" %%7\n}\n'; } >two.ir
{ cat live.ir; printf 'graph "u" {\n  %%0 = input f32[] "x"\n  output "y" %%0\n}\n'; } >two.want
expect 0 "$alphac" opt --passes=dead two.ir <two.want
cat two.ir broken.ir broken.ir >three.ir
expect 1 "$alphac" opt three.ir <<'END'
alphac: error: graph "g" in three.ir is not well-formed:
%0 = input i32[4] "rng": update "rng": that is an input, which a program cannot change
alphac: error: graph "g" in three.ir is not well-formed:
%0 = input i32[4] "rng": update "rng": that is an input, which a program cannot change
END
expect 0 "$alphac" eval two.ir --graph u --input x=2.5 <<'END'
output "y" f32[] 2.5
END
expect 1 "$alphac" eval two.ir --graph v --input x=2.5 <<'END'
alphac: error: --graph v: the file has t, u
END
expect 1 "$alphac" eval two.ir --input x=2.5 <<'END'
alphac: error: the file has 2 graphs; choose one with --graph: t, u
END

# ---- eval ----
expect 0 "$alphac" eval t.ir --input x=1,2,-3.5,4,5,inf --input w=0.1 <<'END'
output "y" f32[2,3]
  0.1 0.2 -0.35
  0.4 0.5 inf
output "at" i32[2,1]
  1
  2
update "w" f32[3]
  0.1 0.1 0.1
END
expect 0 "$alphac" eval t.ir --f64 --json --input=x=nan --input w=0.1,1e-3,2 <<'END'
{"graph":"t","mode":"f64","outputs":[{"name":"y","kind":"output","dtype":"f32","shape":[2,3],"data":["nan","nan","nan","nan","nan","nan"]},{"name":"at","kind":"output","dtype":"i32","shape":[2,1],"data":[0,0]},{"name":"w","kind":"update","dtype":"f32","shape":[3],"data":[0.1,0.001,2]}]}
END
# a safetensors file by hand: the header's length, the header, two f32 tensors
header='{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"other":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}'
{
  printf "\\$(printf %03o ${#header})\0\0\0\0\0\0\0%s" "$header"
  printf '\0\0\200\077\0\0\0\100\0\0\100\100\0\0\0\0'
} >w.safetensors
expect 0 "$alphac" eval t.ir --inputs w.safetensors --input x=2 <<'END'
output "y" f32[2,3]
  2 4 6
  2 4 6
output "at" i32[2,1]
  0
  0
update "w" f32[3]
  1 2 3
END
"$alphac" eval t.ir --seed 7 >first && "$alphac" eval t.ir --seed 7 >second && "$alphac" eval t.ir --seed 8 >third
cmp -s first second && ! cmp -s first third && [ -s third ] || { echo "FAILED: --seed"; failed=1; }
expect 1 "$alphac" eval t.ir <<'END'
alphac: error: no value for input "x", no value for param "w"; give --input, --inputs or --seed
END
expect 1 "$alphac" eval t.ir --input x=1,2 <<'END'
alphac: error: --input x: expected 6 values for f32[2,3], or one for all; found 2
END
expect 1 "$alphac" eval t.ir --input x=1,two <<'END'
alphac: error: --input x: "two" is no number
END
expect 1 "$alphac" eval t.ir --input ww=1 <<'END'
alphac: error: --input ww: the graph has no param, state or input of that name
END
expect 2 "$alphac" eval t.ir --input x <<'END'
alphac eval: error: --input x: expected NAME=VALUE,VALUE…
`alphac eval --help` lists the options.
END
expect 2 "$alphac" eval t.ir --seed 4294967296 <<'END'
alphac eval: error: --seed 4294967296: expected a number from 0 to 4294967295
`alphac eval --help` lists the options.
END
sed 's/f32\[3\] "w"/f32[1,3] "w"/; /reshape/d; s/expand f32\[2,3\] %2/expand f32[2,3] %1/' t.ir >shape.ir
"$alphac" eval shape.ir --inputs w.safetensors --seed 1 >out 2>&1 && { echo "FAILED: another shape was taken"; failed=1; }
grep -q 'w.safetensors: w has shape .*3.*, the graph.s is f32\[1,3\]' out || { echo "FAILED: shape:"; cat out; failed=1; }
printf 'graph "g" {\n  %%0 = input i32[2] "tokens"\n  output "y" %%0\n}\n' >whole.ir
expect 1 "$alphac" eval whole.ir --input tokens=0.5 <<'END'
alphac: error: --input tokens: 0.5 is no i32
END
expect 1 "$alphac" eval whole.ir --input token=1 <<'END'
alphac: error: --input token: the graph has no param, state or input of that name; did you mean tokens?
END
"$alphac" opt --help | grep -q '^  simplify ' && "$alphac" eval --help | grep -q '^  --input NAME' ||
  { echo "FAILED: --help"; failed=1; }
exit $failed
