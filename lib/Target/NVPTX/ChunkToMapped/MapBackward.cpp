//===- MapBackward.cpp - Mapping of gradients' chunk programs -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MapBackward.h"
#include "BackwardForms.h"
#include "ColumnBlocks.h"
#include "CotangentsKernel.h"
#include "StatesKernel.h"
#include "delta/Target/NVPTX/SharedMemory/Passes.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

bool gpumap::isBackward(ModuleOp module) {
  return getStage(module) == Stage::Chunk &&
         getSignature(module).getOption("fn") == "backward";
}

int64_t gpumap::getChunkTokens(ModuleOp module) {
  return getSignature(module).getIntOption("chunk").value_or(16);
}

/// Runs a pass on a mapped module. That it fails is what is to be found out.
static LogicalResult tryPass(ModuleOp module, std::unique_ptr<Pass> pass) {
  PassManager pm(module.getContext());
  pm.addPass(std::move(pass));
  ScopedDiagnosticHandler silent(module.getContext(),
                                 [](Diagnostic &) { return success(); });
  return pm.run(module);
}

//===----------------------------------------------------------------------===//
// Choosing
//===----------------------------------------------------------------------===//

namespace {

/// How a backward program is mapped, and why.
struct BackwardChoice {
  bool inSlices = false;
  SlicedChoice slices;
  TiledChoice tiles;
  int64_t sharedBytes = 0;
  std::string whyTiles; // not slices
  std::string whyWhole; // no fewer columns a CTA
  std::string whyNoSegments;
  GpuMapping chain; // of the state's cotangents, with segments
  int64_t recordBytes = 0;
  /// What was looked at, for few heads, and the cost.
  struct Cost {
    int64_t vBlocks, segment; // CTAs that share a head; chunks, 0: all
    double operations;
  };
  SmallVector<Cost> costs;

  int64_t getBlocks() const {
    return inSlices ? slices.vBlocks : tiles.vBlocks;
  }
};

class BackwardMapper {
public:
  BackwardMapper(ModuleOp module, const GpuMapOptions &options,
                 ::delta::gpu::GpuTarget target)
      : module(module), options(options), target(target) {}

  FailureOr<BackwardChoice> choose();
  static LogicalResult apply(ModuleOp module, const GpuMapOptions &options,
                             const BackwardChoice &choice);

private:
  LogicalResult findCounts();
  /// The program of one block; null where it is not to be had.
  OwningOpRef<ModuleOp> split(int64_t count, bool segments);
  FailureOr<bool> trySlices(ModuleOp program, int64_t count, int64_t segment);
  FailureOr<bool> tryTiles(ModuleOp program, int64_t count);
  double countOperations(ModuleOp mapped);
  double estimate(int64_t count) const;
  /// Looks at what the chain of the state's cotangents takes; a failure with
  /// the reason in the choice where it has no kernel of its own.
  LogicalResult findChain();
  double estimateSegments(int64_t count, int64_t segment) const;
  int64_t chooseSegment(int64_t count) const;
  /// Does it fit as often as it shall?
  bool fits(ModuleOp mapped, int64_t ctas);

  ModuleOp module;
  const GpuMapOptions &options;
  ::delta::gpu::GpuTarget target;
  int64_t stateRows = 0, stateCols = 0;
  SmallVector<int64_t> counts;
  BackwardChoice choice;
  int64_t smallest = 0;  // of what does not fit, in bytes; 0: nothing yet
  double operations = 0; // of the warp that has most, in the last choice
  double chain = 0;      // cycles of a chunk's step of the chain, for all heads
};

} // namespace

/// Numbers of blocks that divide the columns, of 16 columns at least.
LogicalResult BackwardMapper::findCounts() {
  func::FuncOp function = getProgram(module);
  unsigned arguments = function.getNumArguments();
  auto state = arguments < 2 ? RankedTensorType()
                             : dyn_cast<RankedTensorType>(
                                   function.getArgumentTypes()[arguments - 2]);
  if (!state || state.getRank() != 2)
    return function.emitOpError("expects the state and the number of tokens as "
                                "its last arguments");
  stateRows = state.getDimSize(0);
  stateCols = state.getDimSize(1);
  for (int64_t count = 1; count == 1 || count * 16 <= stateCols; ++count)
    if (stateCols % count == 0 && (!options.vsplit || options.vsplit == count))
      counts.push_back(count);
  if (!counts.empty())
    return success();
  return module.emitError()
         << "vsplit=" << options.vsplit << " does not divide the " << stateCols
         << " columns of the state into blocks of 16 or more";
}

/// Adds the program of the state's cotangent. What is wrong with it is not the
/// user's mistake, so it is left in `why`.
static LogicalResult addChain(ModuleOp module, std::string &why) {
  ScopedDiagnosticHandler silent(module.getContext(), [&](Diagnostic &found) {
    if (why.empty())
      why = found.str();
    return success();
  });
  return addCotangentsProgram(module);
}

OwningOpRef<ModuleOp> BackwardMapper::split(int64_t count, bool segments) {
  OwningOpRef<ModuleOp> program = module.clone();
  Location where = module.getLoc();
  // The chain is that of all columns.
  if (segments && failed(addCotangentsProgram(*program)))
    return {};
  if (count == 1 ||
      succeeded(splitColumns(getProgram(*program), getSignature(module), count,
                             choice.whyWhole, where)))
    return program;
  if (options.vsplit)
    emitError(where) << "vsplit=" << count
                     << ": CTAs cannot share the columns of the state: "
                     << choice.whyWhole;
  return {};
}

/// Operations of the warp that has most, for a chunk.
double BackwardMapper::countOperations(ModuleOp mapped) {
  double common = 0;
  SmallVector<double> own(kMaxWarps, 0.0);
  getMainKernel(mapped)->walk([&](scf::ForOp loop) {
    if (loop->getParentOfType<scf::ForOp>() || loop.getNumRegionIterArgs() == 0)
      return;
    for (Operation &op : loop.getBody()->without_terminator()) {
      double work = 0;
      op.walk(
          [&](Operation *inner) { work += !isa<arith::ConstantOp>(inner); });
      // One warp's work is dealt out in turn.
      if (auto branch = dyn_cast<scf::IfOp>(op)) {
        auto is = branch.getCondition().getDefiningOp<arith::CmpIOp>();
        if (is && is.getPredicate() == arith::CmpIPredicate::eq) {
          *llvm::min_element(own) += work;
          continue;
        }
      }
      common += work;
    }
  });
  return common + *llvm::max_element(own);
}

/// Cycles in which as many heads as there are make a step, by the operations
/// of the warp that has most: alone on a multiprocessor, CTAs wait for their
/// own instructions. Sums over blocks cost a little more for each of them.
double BackwardMapper::estimate(int64_t count) const {
  if (!options.sequences)
    return 0.0;
  double resident =
      static_cast<double>(target.getNumSMs() * choice.slices.ctas);
  double heads = static_cast<double>(options.sequences);
  double rounds = std::ceil(heads * count / resident);
  return rounds * operations * (1.0 + 0.04 * (count - 1));
}

LogicalResult BackwardMapper::findChain() {
  std::string &why = choice.whyNoSegments;
  OwningOpRef<ModuleOp> program = module.clone();
  if (failed(addChain(*program, why)))
    return failure();
  ScopedDiagnosticHandler silent(module.getContext(), [&](Diagnostic &found) {
    if (why.empty())
      why = found.str();
    return success();
  });
  FailureOr<Start> start = Start::get(*program, options);
  if (failed(start))
    return failure();
  FailureOr<Candidate> chosen =
      CotangentsKernel::choose(getCotangentsProgram(*program), start->signature,
                               start->policy, target, options);
  if (failed(chosen))
    return failure();
  choice.chain = chosen->mapping;
  choice.recordBytes = chosen->recordBytes;
  chain = chosen->cost * static_cast<double>(options.sequences) /
          static_cast<double>(target.getNumSMs());
  return success();
}

/// What a segment's CTA does before its first chunk, in chunks.
static constexpr double kSegmentStart = 2.0;
/// Cycles that an operation takes as measured on an H200, from the latency of a
/// CTA that is alone; two on a multiprocessor are that much slower.
static constexpr double kCyclesPerOperation = 14.0, kTwoCtas = 1.35;
/// Cycles of the launches of up to three kernels more.
static constexpr double kLaunches = 18000.0;

/// As estimate(): the chain, and all segments beside each other.
double BackwardMapper::estimateSegments(int64_t count, int64_t segment) const {
  double ctas = static_cast<double>(options.sequences * count);
  double resident =
      static_cast<double>(target.getNumSMs() * choice.slices.ctas);
  double steps = static_cast<double>(segment) + kSegmentStart;
  double each = operations * (choice.slices.ctas > 1 ? kTwoCtas : 1.0) *
                (1.0 + 0.04 * (count - 1));
  double other = chain;
  double parallel = ctas * steps / (resident * static_cast<double>(segment));
  if (options.tokens) {
    int64_t chunks = (options.tokens + kTokens - 1) / kTokens;
    ctas *= static_cast<double>((chunks + segment - 1) / segment);
    parallel = std::ceil(ctas / resident) *
               std::min<double>(steps, chunks + kSegmentStart) /
               static_cast<double>(chunks);
    other += kLaunches / static_cast<double>(chunks);
  }
  return parallel * each + other / kCyclesPerOperation;
}

/// Chunks of a segment: so many segments that they fill the device. Whole
/// windows of the chain's kernel are best, which has 8 chunks in one at most.
int64_t BackwardMapper::chooseSegment(int64_t count) const {
  constexpr int64_t kLeast = 4, kStep = 8, kMost = 256, kDefault = 16;
  if (!options.tokens)
    return kDefault;
  int64_t best = kLeast;
  for (int64_t segment = kStep; segment <= kMost; segment += kStep)
    if (estimateSegments(count, segment) < estimateSegments(count, best))
      best = segment;
  return best;
}

bool BackwardMapper::fits(ModuleOp mapped, int64_t ctas) {
  OwningOpRef<ModuleOp> copy = mapped.clone();
  (void)tryPass(*copy, createDeltaPlaceShared());
  int64_t bytes = GpuKernelFacts::get(getMainKernel(*copy))->sharedBytes;
  choice.sharedBytes = bytes;
  if (!smallest || bytes < smallest)
    smallest = bytes;
  // Arrays that share a place may want a barrier where not all warps come.
  return bytes <= target.getSharedBudget(ctas) &&
         succeeded(tryPass(*copy, createDeltaInsertBarriers()));
}

/// The choices for slices, those that hold more warps first.
FailureOr<bool> BackwardMapper::trySlices(ModuleOp program, int64_t count,
                                          int64_t segment) {
  std::string &why = choice.whyTiles;
  if (!isBackward(module)) {
    why = "they are for gradients";
    return false;
  }
  if (int64_t tokens = getChunkTokens(module); tokens != 16) {
    why = "slices have 16 tokens, and a chunk has " + std::to_string(tokens);
    return false;
  }
  if (options.warps) {
    why = "the number of warps is pinned, which slices do not leave open";
    return false;
  }
  SmallVector<SlicedChoice> choices;
  for (int64_t ctas : {2, 1})
    for (int64_t stages : {2, 1})
      for (bool keeps : {true, false}) {
        SlicedChoice candidate;
        candidate.ctas = options.ctas ? options.ctas : ctas;
        candidate.stages = options.stages ? options.stages : stages;
        candidate.keeps = keeps;
        candidate.vBlocks = count;
        candidate.segment = segment;
        choices.push_back(candidate);
      }
  for (const SlicedChoice &candidate : choices) {
    // What is read behind the interval in which it is written ahead is known
    // once the kernel has been written down.
    SlicedChoice found = candidate;
    OwningOpRef<ModuleOp> draft = program.clone();
    std::optional<LogicalResult> mapped =
        mapSliced(*draft, options, candidate, why, &found);
    if (!mapped)
      return false;
    OwningOpRef<ModuleOp> attempt = program.clone();
    if (failed(*mapped) || failed(*mapSliced(*attempt, options, found, why)))
      return failure();
    int64_t threads = GpuKernelFacts::get(getMainKernel(*attempt))->threads;
    // A slice wants some 200 registers.
    if (!options.ctas && candidate.ctas > 1 &&
        target.getRegisterBudget(threads, candidate.ctas) < 192)
      continue;
    if (!fits(*attempt, candidate.ctas))
      continue;
    operations = countOperations(*attempt);
    choice.slices = found;
    return true;
  }
  why = "they do not fit the shared memory of " + target.getName().str();
  return false;
}

/// By tiles as much is kept as the shared memory holds.
FailureOr<bool> BackwardMapper::tryTiles(ModuleOp program, int64_t count) {
  TiledChoice tiles;
  tiles.vBlocks = count;
  tiles.warps = options.warps                                 ? options.warps
                : std::max(stateRows, stateCols / count) > 64 ? 8
                                                              : 4;
  if (32 * tiles.warps > target.getThreadsPerCta())
    return module.emitError()
           << "warps=" << tiles.warps << " is more than a CTA of "
           << target.getName() << " has; expected 1 to "
           << target.getThreadsPerCta() / 32;
  // Small kernels wait for each other's steps: two of them fill the waits.
  for (int64_t ctas : {2, 1})
    for (int step = 0; step < 4; ++step) {
      tiles.ctas = ctas;
      tiles.stages = step < 1 ? 2 : 1;
      tiles.keepsShared = step < 2;
      tiles.copiesCheckpoint = step < 3;
      if (ctas == 2 && tiles.warps > 4)
        continue;
      choice.tiles = tiles;
      OwningOpRef<ModuleOp> attempt = program.clone();
      if (failed(mapTiled(*attempt, options, tiles)))
        return failure();
      if (fits(*attempt, ctas))
        return true;
    }
  return false;
}

FailureOr<BackwardChoice> BackwardMapper::choose() {
  if (!isBackward(module) &&
      (options.rows || options.ksplit || options.window || options.stages ||
       options.kernels || options.free))
    return module.emitError(
        "rows, ksplit, window, stages, kernels and free are choices of the "
        "fused kernels, which take chunks of 16 tokens; a mapping by tiles has "
        "warps and vsplit");
  // The kernel that computes states again is the fused one.
  int64_t every = getSignature(module).getIntOption("save_every").value_or(1);
  if (every != 1 && (getChunkTokens(module) != 16 || !isBackward(module)))
    return module.emitError()
           << "by tiles, the state of every chunk is saved, but with "
              "--save-every="
           << every << " that of every " << every
           << "th one; use --save-every=1 or chunks of 16 tokens";
  if (failed(findCounts()))
    return failure();
  const bool hasChain = (options.segment || options.sequences) &&
                        isBackward(module) && getChunkTokens(module) == 16 &&
                        succeeded(findChain());
  if (options.segment && !hasChain)
    return getProgram(module).emitError()
           << "segment=" << options.segment
           << ": the state's cotangent has no kernel of its own: "
           << (!isBackward(module)            ? "this is no backward"
               : choice.whyNoSegments.empty() ? "it takes chunks of 16 tokens"
                                              : choice.whyNoSegments);
  // The fewest CTAs that fit in slices, or the cheapest number of them.
  std::optional<BackwardChoice> best;
  double least = 0;
  SmallVector<int64_t> splits;
  std::string reason;
  for (int64_t count : counts) {
    OwningOpRef<ModuleOp> program = split(count, options.segment > 0);
    if (!program) {
      if (options.vsplit)
        return failure();
      break;
    }
    splits.push_back(count);
    auto consider = [&](int64_t segment) -> FailureOr<bool> {
      FailureOr<bool> fits = trySlices(*program, count, segment);
      if (failed(fits))
        return failure();
      // The reason why the program as it is has no slices says most.
      if (reason.empty())
        reason = choice.whyTiles;
      if (!*fits)
        return false;
      double cost =
          segment ? estimateSegments(count, segment) : estimate(count);
      choice.costs.push_back({count, segment, cost});
      // Estimates are not that good: more CTAs have to be worth it.
      if (!best || cost < (segment ? 0.9 : 0.96) * least) {
        best = choice;
        best->inSlices = true;
        least = cost;
      }
      return true;
    };
    FailureOr<bool> fits = consider(options.segment);
    if (succeeded(fits) && *fits && options.sequences && hasChain &&
        !options.segment) {
      program = split(count, /*segments=*/true);
      fits = consider(chooseSegment(count));
    }
    if (failed(fits))
      return failure();
    // Segments repeat nothing; columns that are shared repeat the channels.
    if (best && (!options.sequences || best->slices.segment))
      break;
  }
  if (best) {
    best->whyTiles.clear();
    best->costs = choice.costs;
    return *best;
  }
  choice.whyTiles = reason;
  if (options.segment)
    return getProgram(module).emitError()
           << "segment=" << options.segment
           << " is a choice of slices, and this backward works by tiles: "
           << reason;
  for (int64_t count : splits) {
    OwningOpRef<ModuleOp> program = split(count, /*segments=*/false);
    FailureOr<bool> fits = tryTiles(*program, count);
    if (failed(fits))
      return failure();
    if (*fits)
      return choice;
  }
  int64_t tokens = getChunkTokens(module);
  auto error =
      getProgram(module).emitError()
      << "no mapping of the " << (isBackward(module) ? "backward" : "forward")
      << " of a " << stateRows << " x " << stateCols << " state"
      << (tokens > 16 ? " in chunks of " + std::to_string(tokens) + " tokens"
                      : "")
      << " fits " << target.getName() << ": the smallest needs " << smallest
      << " bytes of shared memory a CTA, and there are "
      << target.getSharedPerCta();
  if (splits.size() == 1 && !choice.whyWhole.empty())
    error << "; CTAs cannot share its columns: " << choice.whyWhole;
  return error << "; use " << (tokens > 16 ? "smaller chunks, " : "")
               << "--target=cpu or smaller dims";
}

LogicalResult BackwardMapper::apply(ModuleOp module,
                                    const GpuMapOptions &options,
                                    const BackwardChoice &choice) {
  std::string why;
  Location where = module.getLoc();
  if (choice.inSlices && choice.slices.segment &&
      failed(addCotangentsProgram(module)))
    return failure();
  if (choice.getBlocks() > 1 &&
      failed(splitColumns(getProgram(module), getSignature(module),
                          choice.getBlocks(), why, where)))
    return emitError(where) << why;
  if (choice.inSlices)
    return *mapSliced(module, options, choice.slices, why);
  return mapTiled(module, options, choice.tiles);
}

/// Bytes of a saved state.
static int64_t getSavedBytes(ModuleOp mapped) {
  SignatureAttr signature = getSignature(mapped);
  ArgAttr saved = signature.getArgs(ArgKind::Checkpoint).front();
  int64_t bytes = saved.getType().getIntOrFloatBitWidth() / 8;
  for (StringAttr axis : saved.getAxes())
    bytes *= *signature.getDim(axis);
  return bytes;
}

static FailureOr<BackwardChoice> choose(ModuleOp module,
                                        const GpuMapOptions &options) {
  FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
  if (failed(target))
    return failure();
  return BackwardMapper(module, options, *target).choose();
}

bool gpumap::fitsTiles(ModuleOp module, const GpuMapOptions &options) {
  ScopedDiagnosticHandler silent(module.getContext(),
                                 [](Diagnostic &) { return success(); });
  return succeeded(choose(module, options));
}

LogicalResult gpumap::mapBackward(ModuleOp module,
                                  const GpuMapOptions &options) {
  FailureOr<BackwardChoice> choice = choose(module, options);
  if (failed(choice))
    return failure();
  return BackwardMapper::apply(module, options, *choice);
}

LogicalResult gpumap::explainBackward(ModuleOp module,
                                      const GpuMapOptions &options,
                                      raw_ostream &os) {
  FailureOr<BackwardChoice> choice = choose(module, options);
  if (failed(choice))
    return failure();
  OwningOpRef<ModuleOp> mapped = module.clone();
  if (failed(BackwardMapper::apply(*mapped, options, *choice)))
    return failure();
  if (!choice->whyTiles.empty() && isBackward(module))
    os << "  by tiles, not in slices: " << choice->whyTiles << "\n";
  if (!choice->whyWhole.empty())
    os << "  one CTA a head: " << choice->whyWhole << "\n";
  if (options.sequences && choice->costs.size() > 1) {
    os << "  CTAs that share a head, with estimated operations of a warp for a "
          "chunk of "
       << options.sequences << " heads:";
    for (auto [number, cost] : llvm::enumerate(choice->costs)) {
      os << (number ? ", " : " ") << "vsplit=" << cost.vBlocks;
      if (cost.segment)
        os << " segment=" << cost.segment;
      os << llvm::format(" %.0f", cost.operations);
    }
    os << "\n";
  }
  if (options.sequences && !choice->whyNoSegments.empty())
    os << "  a CTA for all chunks: " << choice->whyNoSegments << "\n";
  auto mapping =
      cast<DictionaryAttr>(getSignature(*mapped).getOptions().get("mapping"));
  auto number = [&](StringRef name) {
    return cast<IntegerAttr>(mapping.get(name)).getInt();
  };
  if (getStatesProgram(module))
    os << "  the states between saved ones are computed again by a kernel "
          "before it, a CTA for "
       << 16 * getSignature(module).getIntOption("save_every").value_or(1)
       << " tokens, and lie in the workspace ("
       << llvm::format("%g", static_cast<double>(getSavedBytes(*mapped)) / 16)
       << " bytes for every token and head)\n";
  if (int64_t segment = choice->slices.segment; choice->inSlices && segment) {
    const GpuMapping &chain = choice->chain;
    os << "  segments of " << segment
       << " chunks beside each other; the state's cotangent behind each comes "
          "from "
       << (chain.kernels == 2 ? "two kernels" : "a kernel")
       << " before (warps=" << chain.warps << " rows=" << chain.rowsPerWarp
       << " vsplit=" << chain.vBlocks << " ksplit=" << chain.kSplit
       << " window=" << chain.window << " stages=" << chain.stages
       << " kernels=" << chain.kernels;
    if (chain.kernels == 2)
      os << " free=" << chain.freeWindow
         << " workspace_bytes_per_chunk=" << choice->recordBytes;
    os << ")\n";
  }
  os << "mapping form=" << cast<StringAttr>(mapping.get("form")).getValue()
     << " warps=" << number("warps") << " stages=" << number("stages")
     << " ctas=" << number("ctas") << " shared_bytes=" << choice->sharedBytes
     << " vsplit=" << choice->getBlocks();
  if (mapping.get("segment"))
    os << " segment=" << number("segment");
  os << " kernels=" << getGpuKernels(*mapped).size() << "\n";
  return success();
}
