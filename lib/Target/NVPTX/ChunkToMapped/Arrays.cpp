//===- Arrays.cpp - The shared arrays of a forward kernel -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A factor takes the place of an input of its size when nobody reads the input
// after it; inputs that only the free slice reads have one stage.
//
//===----------------------------------------------------------------------===//

#include "Arrays.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

int64_t gpumap::getLoopPhase(const Program &program, Operation *op) {
  int64_t phase = 0;
  for (Value operand : op->getOperands()) {
    Node node{program.resolve(operand), Form::Wide};
    if (program.nodes.contains(node))
      phase = std::max(phase, program.getPhase(node));
  }
  return phase;
}

bool gpumap::isChannelSum(Node node) {
  Operation *op = node.value.getDefiningOp();
  return op && isFree(node.form) && node.form != Form::Wide &&
         node.form != Form::Channels && isa<SumOp, MatmulOp, DecayGramOp>(op) &&
         !(isa<SumOp>(op) && node.form == Form::Number);
}

/// Does `value`, in slices, read `argument`?
static bool reads(const Program &program, Value value, BlockArgument argument) {
  value = program.resolve(value);
  if (value == argument)
    return true;
  Operation *op = value.getDefiningOp();
  return op && isPointwise(op) &&
         llvm::any_of(op->getOperands(), [&](Value operand) {
           return reads(program, operand, argument);
         });
}

Arrays::Arrays(const Program &program, const GpuMapping &mapping,
               const OperandPolicy &policy) {
  Builder builder(program.function.getContext());
  Type f32 = builder.getF32Type();
  const int64_t window = mapping.window, tokens = program.chunk;
  const bool hasFree = mapping.slices != Slices::State;
  const bool hasState = mapping.slices != Slices::Free;

  llvm::DenseMap<Value, int64_t> inputOf;
  for (BlockArgument argument : program.staged) {
    ArgAttr arg = program.getArg(argument);
    StagedInput input;
    input.argument = argument;
    bool free = hasFree && llvm::any_of(program.nodes, [&](Node node) {
                  return node.value == argument && isFree(node.form);
                });
    bool forState = hasState && program.stagedForState.contains(argument);
    if (!free && !forState)
      continue;
    bool turned = hasState && program.nodes.contains({argument, Form::Turned});
    input.late = hasState && !forState && !mapping.isOverlapped();
    input.stages = mapping.stages;
    input.forStateOnly = mapping.isOverlapped() && !free;
    if (arg.getAxes().empty()) {
      input.late = false;
      input.type = warp::SharedType::get(
          argument.getContext(), {input.stages, window, tokens}, arg.getType(),
          /*swizzle=*/false, /*pad=*/0);
    } else {
      int64_t channels =
          cast<RankedTensorType>(argument.getType()).getDimSize(1);
      // A tile as it came may be an operand of the state slice too.
      bool operand = forState && !turned;
      input.ownColumns = turned && !free && !operand;
      input.width = input.ownColumns ? mapping.blockCols : channels;
      int64_t columns = getPaddedChannels(input.width);
      if (turned)
        columns = std::max(
            columns,
            (input.ownColumns ? 0 : (mapping.vBlocks - 1) * mapping.blockCols) +
                mapping.warps * mapping.rowsPerWarp);
      input.type =
          getTileType({input.stages, window}, tokens, columns, arg.getType());
    }
    inputOf[argument] = inputs.size();
    inputs.push_back(input);
  }

  for (Node node : program.nodes) {
    auto argument = dyn_cast<BlockArgument>(node.value);
    if (!hasFree || !argument || node.form != Form::Channels ||
        program.getArg(argument).getKind() != ArgKind::Param)
      continue;
    int64_t channels = cast<RankedTensorType>(argument.getType()).getDimSize(0);
    params.push_back(
        {argument, warp::SharedType::get(argument.getContext(),
                                         {1, getPaddedChannels(channels)},
                                         program.getArg(argument).getType(),
                                         /*swizzle=*/false, /*pad=*/0)});
  }

  // Transfers of one window are read while the next one's are made or copied.
  SmallVector<int64_t> lead{window};
  if (mapping.isOverlapped() || !hasFree)
    lead.insert(lead.begin(), 2);
  auto vectorType = [&](int64_t size) {
    SmallVector<int64_t> shape(lead);
    shape.push_back(size);
    return warp::SharedType::get(builder.getContext(), shape, f32,
                                 /*swizzle=*/false, /*pad=*/0);
  };
  llvm::DenseSet<int64_t> taken;
  for (Node node : program.transfers) {
    TransferPlace place;
    place.node = node;
    switch (node.form) {
    case Form::Wide: {
      int64_t channels =
          cast<RankedTensorType>(node.value.getType()).getDimSize(1);
      place.type =
          getTileType(lead, tokens, getPaddedChannels(channels), policy.type);
      for (auto [index, input] : llvm::enumerate(inputs)) {
        if (!hasFree || taken.contains(index) || input.ownColumns ||
            (hasState && program.stagedForState.contains(input.argument)) ||
            input.type.getRank() != 4 ||
            input.type.getElementType() != policy.type ||
            input.type.getShape().drop_front() !=
                place.type.getShape().take_back(3) ||
            !reads(program, node.value, input.argument) ||
            program.getLastLoop({input.argument, Form::Wide}) >
                program.getPhase(node))
          continue;
        place.over = index;
        taken.insert(index);
        break;
      }
      break;
    }
    case Form::Square:
      place.type = getTileType(lead, tokens, tokens, policy.type);
      break;
    case Form::Channels: {
      int64_t channels =
          cast<RankedTensorType>(node.value.getType()).getDimSize(0);
      place.type = vectorType(getPaddedChannels(channels));
      break;
    }
    default:
      place.type = vectorType(tokens);
    }
    transfers.push_back(place);
  }
  // An input that is overwritten with a factor is read by the state slice.
  for (int64_t index : taken)
    inputs[index].late = false;
  for (auto [index, input] : llvm::enumerate(inputs)) {
    // Where the slices overlap, what only one of them reads is there for it and
    // for the copies.
    bool both = !input.forStateOnly &&
                (program.stagedForState.contains(input.argument) ||
                 taken.contains(index));
    if (input.late)
      input.stages = 1;
    else if (mapping.isOverlapped() && !both)
      input.stages = 2;
    else
      continue;
    SmallVector<int64_t> shape(input.type.getShape());
    shape[0] = input.stages;
    input.type = warp::SharedType::get(
        builder.getContext(), shape, input.type.getElementType(),
        input.type.getSwizzle(), input.type.getPad());
  }

  for (Node node : program.nodes)
    if (auto op = node.value.getDefiningOp<DecayGramOp>(); op && hasFree)
      if (op.getScheme() == DecayScheme::Exact ||
          static_cast<int64_t>(op.getLeaf()) < tokens)
        gram = getTileType({window, 1}, tokens, tokens, f32);
  if (mapping.kSplit > 1)
    for (Node node : program.nodes)
      if (isChannelSum(node)) {
        bool vector = node.form == Form::Tokens;
        partials.push_back(
            {node.value, vector
                             ? vectorType(tokens)
                             : getTileType({window, 1}, tokens, tokens, f32)});
      }
  for (Operation *op : program.systems) {
    auto solve = cast<TriSolveOp>(op);
    int64_t steps = solve.getRhs().size();
    SmallVector<int64_t> targets(lead);
    targets.push_back(steps);
    SystemPlace place;
    place.op = solve;
    if (hasFree)
      place.source = getTileType({window, steps}, tokens, steps * tokens, f32);
    place.inverse = getTileType(targets, tokens, steps * tokens, policy.type);
    place.overGram = gram && gram == place.source;
    systems.push_back(place);
  }
  if (!hasFree || !hasState)
    layOutRecord(lead.size());
}

/// Bytes behind the leading axes, without what pads the rows.
static int64_t getPartBytes(warp::SharedType type, unsigned lead) {
  int64_t bytes = type.getElementBytes();
  for (int64_t size : type.getShape().drop_front(lead))
    bytes *= size;
  return bytes;
}

void Arrays::layOutRecord(unsigned lead) {
  // Whole lines of the caches.
  constexpr int64_t kLine = 128;
  for (TransferPlace &place : transfers) {
    place.recordOffset = recordBytes;
    recordBytes += getPartBytes(place.type, lead);
  }
  for (SystemPlace &place : systems) {
    place.recordOffset = recordBytes;
    recordBytes += getPartBytes(place.inverse, lead);
  }
  recordBytes = (recordBytes + kLine - 1) / kLine * kLine;
}

int64_t Arrays::getBytes() const {
  int64_t bytes = 0;
  auto add = [&](warp::SharedType type) {
    if (type)
      bytes += (type.getBytes() + 127) / 128 * 128;
  };
  for (const StagedInput &input : inputs)
    add(input.type);
  for (const StagedParam &param : params)
    add(param.type);
  for (const TransferPlace &place : transfers)
    if (place.over < 0)
      add(place.type);
  for (const SystemPlace &system : systems) {
    if (!system.overGram)
      add(system.source); // null without the free slice
    add(system.inverse);
  }
  for (const PartialPlace &partial : partials)
    add(partial.type);
  add(gram);
  return bytes;
}
