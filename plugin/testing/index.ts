export { stopClock, type Clock } from './clock.js'
export { signIn, type SignedIn } from './sign-in.js'
export { spyStore, wrapStore, type SpyStore, type StoreCall, type StoreMethod } from './spy.js'
export {
  caseNames,
  testStore,
  type Capability,
  type MakeStore,
  type StoreCases,
  type StoreProcess,
  type StoreRunner,
  type StoreUnderTest,
  type TestStoreOptions
} from './store.js'
